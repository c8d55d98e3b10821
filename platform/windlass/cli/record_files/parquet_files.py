"""Parquet, if pyarrow is installed. The output is JSON Lines, since an incomplete Parquet file cannot be continued."""

from collections.abc import Iterator
from typing import Any

from windlass.cli.record_files.json_files import ObjectsFile
from windlass.domain.errors import InvalidError

_ROWS = 1024


class ParquetFile(ObjectsFile):
    """The rows of a Parquet file. Values that JSON does not have, such as times, become text in the output."""

    @property
    def output_suffix(self) -> str:
        """The end of the name of an output."""
        return ".jsonl"

    def _values(self) -> Iterator[tuple[str, Any]]:
        try:
            from pyarrow import ArrowException, parquet  # noqa: PLC0415 - optional, and slow to import
        except ImportError:
            raise InvalidError(
                f"{self.path}: reading Parquet needs pyarrow", hint="install it: pip install pyarrow"
            ) from None
        number = 0
        try:
            with parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"row {number}", row
        except ArrowException as error:
            raise InvalidError(f"{self.path} is not a valid Parquet file: {error}") from None
