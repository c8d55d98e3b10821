"""Common interface of the file readers: columns, and records on demand."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from windlass.domain.ingest import Encoding, FileFormat, Quoting

Record = tuple[int, Mapping[str, Any]]
"""1-based line or row number in the file, and values by column."""
MAX_COLUMNS = 1000


@dataclass(frozen=True)
class Table:
    """An open file. ``read`` yields records with at least the given columns, where a record has them."""

    columns: Mapping[str, int | None]
    """Column names in order; the number of rows that have the column, None for all."""
    read: Callable[[frozenset[str]], Iterator[Record]]
    format: FileFormat
    encoding: Encoding | None = None
    delimiter: str | None = None
    quoting: Quoting | None = None
    has_header: bool = True
    """False if the names of the columns look like the values of a row."""
