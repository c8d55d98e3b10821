"""Write-ahead log of one source's reports on the local disk: unacknowledged reports survive the process.

The file contains JSON lines, each a change of the queue of unacknowledged items:

- ``{"item": ...}`` appends an item;
- ``{"batch": n, "items": k}`` makes the oldest ``k`` items batch ``n``, synced before the batch is sent, so that a
  resend has the same items; the same ``n`` again, with a smaller ``k``, splits it;
- ``{"ack": n}`` removes the items of batch ``n``;
- ``{"drop": kind, "items": k}`` removes the oldest ``k`` items of a kind that are not in the batch;
- ``{"base": n}`` is the first line of a compacted file: the number of the newest acknowledged batch.

A truncated last line is dropped on recovery. One process at a time owns a spool, by ``flock``.

No method raises for a disk that is full or failing: the items stay in memory and are sent from there, and every batch
first tries to write the file again. A crash in that time loses the items that are not in the file.
"""

import fcntl
import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

_log = logging.getLogger(__name__)
MAX_ITEMS = 1000
MAX_BATCH_BYTES = 1 << 20
MAX_BYTES = 64 << 20
"""Maximum size of the unacknowledged items in memory, about a day of a training that logs a line per second."""
_DROP_ORDER = ("log", "metric", "event")
"""Kinds that are dropped above ``MAX_BYTES``; checkpoints and results never are."""
_DROP_TO = 0.75
"""Part of ``MAX_BYTES`` that a drop leaves, so that not every item causes one."""
_COMPACT_BYTES = 1 << 20


class SpoolLockedError(Exception):
    """Another process has locked this spool."""


class SpoolCorruptedError(Exception):
    """A line other than the last one is not valid."""


def spool_dir(workspace: Path) -> Path:
    """Return the folder of a run's spools in its workspace."""
    return workspace / "spool"


@dataclass(frozen=True)
class Batch:
    """A numbered batch with its items as JSON; without items it is a heartbeat, which has no number of its own."""

    sequence: int
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    text: str
    kind: str
    ordinal: int


class ReportSpool:
    """Unacknowledged items of one source, in memory and on disk. Thread-safe."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Open or create.

        Raises:
            SpoolLockedError: another process has locked it.
            SpoolCorruptedError: a line other than the last is not valid.
            OSError: the file cannot be created or read.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._max_bytes = max_bytes
        self._lock = Lock()
        self._items: deque[_Item] = deque()
        self._bytes = 0
        self._batch_items: int | None = None
        """Number of items in the open batch, None when there is none."""
        self._item_count = 0
        self._stale = False
        """Whether the file lacks changes that are in memory; it is rewritten before anything is appended."""
        self.sequence = 0
        """Number of the newest batch."""
        self.acknowledged = 0
        """Ordinal of the newest acknowledged item; the first item has ordinal 1."""
        self._stream = _locked(path)
        try:
            self._recover()
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self._stream.close()
            raise SpoolCorruptedError(f"{path.name}: {error}") from error

    def _recover(self) -> None:
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._apply_record(json.loads(line))
        if len(whole) < len(content):
            self._stream.truncate(len(whole))
        self._stream.seek(0, os.SEEK_END)

    def _apply_record(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"item": item}:
                self._add(json.dumps(item), str(item.get("type", "")))
            case {"batch": int(sequence), "items": int(count)}:
                self.sequence, self._batch_items = sequence, min(count, len(self._items))
            case {"ack": int()}:
                self._remove_batch()
            case {"drop": str(kind), "items": int(count)}:
                self._remove_oldest(kind, count)
            case {"base": int(sequence)}:
                self.sequence = sequence
            case _:
                raise ValueError(f"unknown record {sorted(entry)}")

    def put(self, item: str, kind: str = "") -> int:
        """Append an item (JSON without newlines) and return its ordinal. ``kind`` decides what is dropped first."""
        with self._lock:
            self._append(f'{{"item":{item}}}\n')
            self._add(item, kind)
            return self._item_count

    def _add(self, item: str, kind: str) -> None:
        self._item_count += 1
        self._items.append(_Item(item, kind, self._item_count))
        self._bytes += len(item)

    def drop_excess(self) -> dict[str, int]:
        """Drop the oldest items above the size limit, logs first; return the number dropped of each kind."""
        with self._lock:
            dropped = {}
            if self._bytes > self._max_bytes:
                for kind in _DROP_ORDER:
                    if count := self._excess_of(kind):
                        self._remove_oldest(kind, count)
                        self._append(f'{{"drop":"{kind}","items":{count}}}\n')
                        dropped[kind] = count
            return dropped

    def _excess_of(self, kind: str) -> int:
        """Return how many of the oldest items of a kind to drop to get below the limit."""
        count, size = 0, self._bytes
        for item in islice(self._items, self._batch_items or 0, None):
            if size <= self._max_bytes * _DROP_TO:
                break
            if item.kind == kind:
                count, size = count + 1, size - len(item.text)
        return count

    def _remove_oldest(self, kind: str, count: int) -> None:
        start, rest = self._batch_items or 0, deque[_Item]()
        for number, item in enumerate(self._items):
            if number >= start and item.kind == kind and count:
                count -= 1
                self._bytes -= len(item.text)
            else:
                rest.append(item)
        self._items = rest

    def is_empty(self) -> bool:
        """Return whether every item is acknowledged."""
        with self._lock:
            return not self._items

    def has_unsent(self) -> bool:
        """Return whether there are items that are not in a batch yet."""
        with self._lock:
            return len(self._items) > (self._batch_items or 0)

    def holds(self, kind: str) -> bool:
        """Return whether an unacknowledged item is of this kind."""
        with self._lock:
            return any(item.kind == kind for item in self._items)

    def next_batch(self) -> Batch:
        """Return the open batch; open one when there is none. Without items, return a heartbeat."""
        with self._lock:
            if self._stale:
                self._compact()
            if self._batch_items is None and self._items:
                self.sequence += 1
                self._set_batch(self._batch_size())
            return Batch(self.sequence, tuple(item.text for item in islice(self._items, self._batch_items or 0)))

    def _batch_size(self) -> int:
        count, size = 0, 0
        for item in islice(self._items, MAX_ITEMS):
            size += len(item.text)
            if count and size > MAX_BATCH_BYTES:
                break
            count += 1
        return count

    def _set_batch(self, count: int) -> None:
        self._batch_items = count
        self._append(f'{{"batch":{self.sequence},"items":{count}}}\n')
        if not self._stale:
            try:
                os.fdatasync(self._stream.fileno())
            except OSError as error:
                self._mark_stale(error)

    def split_batch(self) -> bool:
        """Leave half of the items in the open batch, because the control plane rejects it; False for a single item.

        The control plane stores nothing of a rejected batch, so its number is used again.
        """
        with self._lock:
            if self._batch_items is None or self._batch_items <= 1:
                return False
            self._set_batch(self._batch_items // 2)
            return True

    def acknowledge(self, sequence: int) -> None:
        """Remove the items of the open batch if this is its number."""
        with self._lock:
            if self._batch_items is None or sequence != self.sequence:
                return
            self._remove_batch()
            self._append(f'{{"ack":{sequence}}}\n')
            if not self._stale and self._stream.tell() > 2 * self._bytes + _COMPACT_BYTES:
                self._compact()

    def _remove_batch(self) -> None:
        for _ in range(self._batch_items or 0):
            item = self._items.popleft()
            self._bytes -= len(item.text)
            self.acknowledged = item.ordinal
        self._batch_items = None

    def _append(self, line: str) -> None:
        """Append a whole line; when that fails, the file is stale until it is rewritten."""
        if self._stale:
            return
        offset = self._stream.tell()
        try:
            _write_all(self._stream, line.encode())
        except OSError as error:
            with suppress(OSError):  # a partial line is the last one, and recovery drops it
                self._stream.truncate(offset)
                self._stream.seek(offset)
            self._mark_stale(error)

    def _mark_stale(self, error: OSError) -> None:
        self._stale = True
        _log.error("%s cannot be written; reports are kept in memory: %s", self.path.name, error)

    def _compact(self) -> None:
        """Rewrite the file with the unacknowledged items only; on an error the old file stays."""
        draft = self.path.with_suffix(".tmp")
        stream: FileIO | None = None
        try:
            draft.unlink(missing_ok=True)
            stream = _locked(draft)
            _write_all(stream, "".join(self._lines()).encode())
            os.fsync(stream.fileno())
            draft.replace(self.path)
        except OSError as error:
            if stream is not None:
                stream.close()
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            _log.warning("%s cannot be rewritten: %s", self.path.name, error)
            return
        self._stream.close()
        self._stream, self._stale = stream, False

    def _lines(self) -> Iterator[str]:
        yield f'{{"base":{self.sequence - (self._batch_items is not None)}}}\n'
        for item in self._items:
            yield f'{{"item":{item.text}}}\n'
        if self._batch_items is not None:
            yield f'{{"batch":{self.sequence},"items":{self._batch_items}}}\n'

    def close(self, *, discard: bool = False) -> None:
        """Close and unlock the file; with ``discard``, also delete it."""
        with self._lock:
            if discard:
                self.path.unlink(missing_ok=True)
            elif self._stale:
                self._compact()
            self._stream.close()


def _write_all(stream: FileIO, content: bytes) -> None:
    """Write all bytes: a raw stream may write only some of them, for example on a disk that is almost full."""
    rest = memoryview(content)
    while rest:
        written = stream.write(rest)
        if not written:
            raise OSError(f"{written} of {len(rest)} bytes were written")
        rest = rest[written:]


def _locked(path: Path) -> FileIO:
    path.touch(mode=0o600)
    stream = path.open("r+b", buffering=0)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise SpoolLockedError(f"{path.name} is locked by another process") from None
    return stream
