"""Prints the log of a job: from an offset, the last lines, or the lines since a time; then follows it."""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from windlass.cli.safe_text import lines
from windlass.cli.session import Session

if TYPE_CHECKING:
    from windlass.sdk._sync.jobs import Jobs


def print_log(
    session: Session,
    job: str,
    *,
    offset: int = 0,
    tail: int | None = None,
    since_seconds: int | None = None,
    follow: bool = False,
) -> None:
    """Print a job's log.

    Args:
        session: the invocation.
        job: id of the job.
        offset: first byte.
        tail: only the last lines, of those that the other arguments select.
        since_seconds: only lines that were written in the last seconds.
        follow: continue until the log is complete.
    """
    reader = _LogReader(session.client.jobs, job, offset)
    if since_seconds is None:
        selected = reader.lines(tail)
    else:
        selected = _since(reader.lines(), since_seconds)
        selected = selected if tail is None else iter(deque(selected, maxlen=tail))
    for line in selected:
        session.write(lines(line))
    if follow:
        with session.detach_on_interrupt(f"job {job}", f"windlass job logs -f {job}"):
            for chunk in session.client.jobs.follow_log(job, offset=reader.offset):
                session.write(lines(chunk.text))


class _LogReader:
    """Reads the part of a log that exists now. ``offset`` is the next byte to read."""

    def __init__(self, jobs: "Jobs", job: str, offset: int) -> None:
        self._jobs, self._job, self.offset = jobs, job, offset

    def lines(self, tail: int | None = None) -> Iterator[str]:
        """Yield the lines, or the last ``tail`` lines, up to the present end of the log."""
        partial, before = "", -1
        while self.offset > before:
            before = self.offset
            chunk = self._jobs.log(self._job, offset=self.offset, tail=tail)
            *complete, partial = (partial + chunk.text).split("\n")
            yield from (f"{line}\n" for line in complete)
            self.offset, tail = chunk.next_offset, None
        if partial:
            yield partial


def _since(log_lines: Iterator[str], seconds: int) -> Iterator[str]:
    """Yield the lines whose time, their first word in UTC, is within the last seconds."""
    oldest = f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    return (line for line in log_lines if line.partition(" ")[0] >= oldest)
