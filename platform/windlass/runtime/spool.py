"""The journal of one source's reports on the local disk: what is not acknowledged survives the process.

A journal is a file of JSON lines: ``{"item": ...}`` as it is put, ``{"cut": n}`` when the items before it become
batch ``n`` (synced before the batch is sent, so that a batch that is sent twice holds the same items), ``{"ack": n}``
when the control plane has it, ``{"base": n}`` first in a compacted file. A torn last line is dropped on reading.
One process at a time holds a journal, by ``flock``.
"""

import fcntl
import json
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any

MAX_ITEMS = 1000
MAX_BYTES = 1 << 20
_COMPACT_BYTES = 1 << 20


class JournalHeldError(Exception):
    """Another process writes this journal."""


class JournalDamagedError(Exception):
    """A line of this journal, and not its last one, is none of ours."""


def folder_of(workspace: Path) -> Path:
    """Return where the journals of a run lie, in its workspace."""
    return workspace / "spool"


@dataclass(frozen=True)
class Batch:
    """A numbered batch: its items as JSON texts, and the ordinal of the last one in the journal."""

    sequence: int
    items: tuple[str, ...]
    last: int


class Journal:
    """A source's pending items and unacknowledged batches, in memory and on disk. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open or create.

        Raises:
            JournalHeldError: it is in use.
            JournalDamagedError: it cannot be read.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock = Lock()
        self._pending: list[str] = []
        self._batches: list[Batch] = []
        self._put = 0
        self.sequence = 0
        """Number of the newest batch."""
        self.acknowledged = 0
        """How many items put here, counted from 1, are acknowledged."""
        self._stream = _locked(path)
        try:
            self._recover()
        except ValueError as error:
            self._stream.close()
            raise JournalDamagedError(f"{path.name}: {error}") from error

    def _recover(self) -> None:
        content = self._stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._replay(json.loads(line))
        if len(whole) < len(content):
            self._stream.truncate(len(whole))
        self._stream.seek(0, os.SEEK_END)

    def _replay(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"item": item}:
                self._put += 1
                self._pending.append(json.dumps(item))
            case {"cut": int(sequence)}:
                self.sequence = sequence
                self._batches.append(Batch(sequence, tuple(self._pending), self._put))
                self._pending.clear()
            case {"ack": int(sequence)}:
                self._forget(sequence)
            case {"base": int(sequence)}:
                self.sequence = sequence

    def put(self, item: str) -> int:
        """Append an item (JSON without newlines); it survives the process from here on. Returns its ordinal."""
        with self._lock:
            self._append(f'{{"item":{item}}}\n')
            self._pending.append(item)
            self._put += 1
            return self._put

    def _append(self, line: str) -> None:
        """Write a line, or none of it when the disk is full: what is in memory is still sent, training goes on."""
        place = self._stream.tell()
        try:
            done = self._stream.write(line.encode()) == len(line.encode())
        except OSError:
            done = False
        if not done:
            self._stream.truncate(place)
            self._stream.seek(place)

    def empty(self) -> bool:
        """Tell whether everything put is acknowledged."""
        with self._lock:
            return not self._pending and not self._batches

    def pending(self) -> int:
        """Return how many items are in no batch yet."""
        with self._lock:
            return len(self._pending)

    def next(self) -> Batch:
        """Return the oldest unacknowledged batch, cutting one when there is none (without items: a heartbeat)."""
        with self._lock:
            if not self._batches:
                self._cut()
            return self._batches[0]

    def _cut(self) -> None:
        count, size = 0, 0
        while count < min(len(self._pending), MAX_ITEMS) and (
            count == 0 or size + len(self._pending[count]) < MAX_BYTES
        ):
            size += len(self._pending[count])
            count += 1
        items, rest = tuple(self._pending[:count]), self._pending[count:]
        self.sequence += 1
        if rest:
            # the rest stands before the mark in the file: write the file again in the right order
            self._batches.append(Batch(self.sequence, items, self._put - len(rest)))
            self._pending = rest
            self._rewrite()
            return
        self._append(f'{{"cut":{self.sequence}}}\n')
        if items:
            os.fdatasync(self._stream.fileno())
        self._batches.append(Batch(self.sequence, items, self._put))
        self._pending = rest

    def acknowledge(self, sequence: int) -> None:
        """Drop the batches up to ``sequence``."""
        with self._lock:
            self._forget(sequence)
            self._append(f'{{"ack":{sequence}}}\n')
            if not self._batches and self._stream.tell() > _COMPACT_BYTES:
                self._rewrite()

    def _forget(self, sequence: int) -> None:
        while self._batches and self._batches[0].sequence <= sequence:
            self.acknowledged = self._batches.pop(0).last

    def _rewrite(self) -> None:
        first = self._batches[0].sequence - 1 if self._batches else self.sequence
        lines = [f'{{"base":{first}}}\n']
        for batch in self._batches:
            lines += [f'{{"item":{item}}}\n' for item in batch.items]
            lines.append(f'{{"cut":{batch.sequence}}}\n')
        lines += [f'{{"item":{item}}}\n' for item in self._pending]
        draft = self.path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        stream = _locked(draft)
        stream.write("".join(lines).encode())
        os.fsync(stream.fileno())
        draft.replace(self.path)
        self._stream.close()
        self._stream = stream

    def close(self, *, discard: bool = False) -> None:
        """Let go; with ``discard`` (nothing in it is wanted any more) also remove the file."""
        with self._lock:
            if discard:
                self.path.unlink(missing_ok=True)
            self._stream.close()


def _locked(path: Path) -> FileIO:
    path.touch(mode=0o600)
    stream = path.open("r+b", buffering=0)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise JournalHeldError(f"{path.name} is in use") from None
    return stream
