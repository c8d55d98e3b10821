"""Rows of a dataset on disk: one JSONL file per split, read and written sequentially in constant memory."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from windlass.domain.datasets import Split
from windlass_pipelines.rows import Row


class RowStore:
    """A folder of rows; splits without rows have no file."""

    def __init__(self, folder: Path, counts: Mapping[Split, int]) -> None:
        self.folder = folder
        self.counts = {split: counts[split] for split in Split if counts.get(split)}

    @property
    def total(self) -> int:
        """Number of rows in all splits."""
        return sum(self.counts.values())

    def path(self, split: Split) -> Path:
        """Return the file of a split."""
        return self.folder / f"{split.value}.jsonl"

    def read(self, split: Split) -> Iterator[Row]:
        """Yield the rows of a split in order."""
        if split in self.counts:
            with self.path(split).open(encoding="utf-8", newline="\n") as stream:
                for line in stream:
                    row: Row = json.loads(line)
                    yield row

    def read_all(self) -> Iterator[tuple[Split, Row]]:
        """Yield every row with its split, in the order train, validation, test."""
        for split in self.counts:
            for row in self.read(split):
                yield split, row

    def remove(self) -> None:
        """Delete the files and the folder."""
        for split in self.counts:
            self.path(split).unlink(missing_ok=True)
        self.folder.rmdir()


class RowWriter:
    """Writes rows to a new folder; use as a context manager, then read ``rows``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[Split, TextIO] = {}
        self._counts: dict[Split, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, split: Split, row: Row) -> None:
        """Append a row."""
        stream = self._files.get(split)
        if stream is None:
            path = self._folder / f"{split.value}.jsonl"
            stream = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            self._files[split] = stream
        stream.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        self._counts[split] = self._counts.get(split, 0) + 1

    @property
    def rows(self) -> RowStore:
        """The rows written; complete after the context has exited."""
        return RowStore(self._folder, self._counts)
