"""A job's log: the text is in one growing object, the database has an index of its pieces.

The text is stored before the transaction that adds it to the index, so that no transaction waits for the object store.
Text whose transaction fails stays in the object and is never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from windlass.domain.errors import StorageFullError
from windlass.domain.jobs import Job
from windlass.domain.records import StoredLogChunk
from windlass.domain.reports import LogItem
from windlass.domain.storage_layout import log_key
from windlass.ports import ObjectStore, ProjectData, ReadJobTelemetryStore
from windlass.services.job_events import record_event

_DROPPED = "log_dropped"
MAX_LOG_CHUNKS = 256
"""Chunks of the index that one request reads."""
_TAIL_BYTES = 1 << 14
_MAX_UTF8_BYTES = 4


@dataclass(frozen=True)
class LogText:
    """Text of one batch of one source; ``key`` is None when the store had no space for it."""

    source: str
    attempt: int
    time: datetime
    size: int
    key: str | None
    position: int = 0


def store_log_text(store: ObjectStore, job: Job, attempt: int, source: str, items: Sequence[LogItem]) -> LogText:
    """Append the lines of a batch to the job's log object. ``attempt`` is negative for a step: the run's number."""
    tag = f"attempt {attempt}" if attempt > 0 else f"run {-attempt}"
    lines = [
        f"{item.time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {tag} {source} | {line}\n"
        for item in items
        for line in item.text.splitlines()
    ]
    data, time = "".join(lines).encode(), items[-1].time
    try:
        key, position = store.extend(log_key(job), data)
    except StorageFullError:
        return LogText(source, attempt, time, len(data), key=None)
    return LogText(source, attempt, time, len(data), key, position)


def index_log_text(repos: ProjectData, job: Job, text: LogText, now: datetime) -> None:
    """Add stored text to the end of the job's log; text that was not stored becomes an event, one per gap."""
    if text.key is None:
        newest = repos.telemetry.newest_event(job.id)
        if newest is None or newest.code != _DROPPED:
            message = "log text is dropped: the object store's disk is full"
            record_event(repos, job, now, _DROPPED, message, context={"source": text.source})
        return
    start = repos.telemetry.log_length(job.id)
    repos.telemetry.append_log(
        StoredLogChunk(
            project=job.project,
            job=job.id,
            start=start,
            end=start + text.size,
            source=text.source,
            attempt=text.attempt,
            key=text.key,
            position=text.position,
            time=text.time,
        )
    )


def read_log_chunks(store: ObjectStore, chunks: Sequence[StoredLogChunk], offset: int, limit: int) -> bytes:
    """Return at most ``limit`` bytes of the log from ``offset``, which is in the first chunk."""
    text = b""
    for chunk in chunks:
        if len(text) == limit:
            break
        skipped = max(0, offset - chunk.start)
        with store.open(chunk.key) as stream:
            stream.seek(chunk.position + skipped)
            text += stream.read(min(limit - len(text), chunk.end - chunk.start - skipped))
    return text


def tail_offset(store: ObjectStore, telemetry: ReadJobTelemetryStore, job: str, lines: int) -> int:
    """Return the offset at which the last ``lines`` lines of a job's log begin. Only the end of the log is read."""
    end = telemetry.log_length(job)
    left = lines + 1  # the line break at the end of the log ends the last line
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        chunks = telemetry.log_chunks(job, start, _TAIL_BYTES)  # all of the block: a chunk has at least one byte
        block = read_log_chunks(store, chunks, start, end - start)
        end = len(block)
        while (line_break := block.rfind(b"\n", 0, end)) >= 0:
            left -= 1
            if left == 0:
                return start + line_break + 1
            end = line_break
        end = start
    return 0


def drop_partial_character(text: bytes) -> bytes:
    """Return UTF-8 text without an incomplete character at its end."""
    for back in range(1, min(len(text), _MAX_UTF8_BYTES) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:  # noqa: PLR2004 - the first byte of a character: its leading ones count its bytes
            length = 1 if byte < 0x80 else f"{byte:08b}".index("0")  # noqa: PLR2004 - ASCII ends here
            return text if back >= length else text[:-back]
    return text
