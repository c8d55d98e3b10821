"""What every file reader answers: the columns there are, and the records on demand."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Record = tuple[int, Mapping[str, Any]]
"""Line or row number in the file, from 1, and the values by column."""


@dataclass(frozen=True)
class Table:
    """An opened file. ``read`` yields the records with at least the columns it is asked for."""

    columns: tuple[str, ...]
    read: Callable[[frozenset[str]], Iterator[Record]]
