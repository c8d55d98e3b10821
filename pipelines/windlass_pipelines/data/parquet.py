"""Reads Parquet in small batches, so that memory stays bounded for files with extreme compression ratios."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from windlass.dataset_files.findings import FileFindings, pointer_to, printable
from windlass.dataset_files.streams import Budget, UnreadableError
from windlass.dataset_files.tables import Record, Table
from windlass.domain.ingest import FileFormat
from windlass_pipelines.data.class_names import class_names, named_classes

_FLAT_BATCH, _NESTED_BATCH = 256, 32
_METADATA_BYTES = 32 << 20
_METADATA_ITEMS = 1_000_000
_PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError)
"""Raised by pyarrow on invalid files. The messages may contain row content, so they are not reported."""


def open_parquet(stream: BinaryIO, budget: Budget, findings: FileFindings) -> Table:
    """Open a file.

    Raises:
        UnreadableError: not Parquet, or truncated.
    """
    try:
        schema = _open(stream, ()).schema_arrow
        types: dict[str, pa.DataType] = dict(zip(schema.names, schema.types, strict=True))
    except MemoryError:
        raise
    except _PARQUET_ERRORS:
        raise _not_parquet(stream) from None
    if len(types) < len(schema.names):
        raise UnreadableError("duplicate-column", "two columns have the same name")

    names = class_names(schema)

    def read(wanted: frozenset[str]) -> Iterator[Record]:
        kinds = {name: kind for name, kind in types.items() if name in wanted}
        for name, kind in kinds.items():
            _check_type(name, kind)
        records = _records(stream, kinds, budget, findings)
        return named_classes(records, {name: names[name] for name in kinds if name in names}, findings)

    return Table(dict.fromkeys(schema.names), read, FileFormat.PARQUET)


def _open(stream: BinaryIO, dictionary: tuple[str, ...]) -> pq.ParquetFile:
    return pq.ParquetFile(
        stream,
        read_dictionary=list(dictionary),
        pre_buffer=False,
        buffer_size=1 << 20,
        thrift_string_size_limit=_METADATA_BYTES,
        thrift_container_size_limit=_METADATA_ITEMS,
    )


def _not_parquet(stream: BinaryIO) -> UnreadableError:
    stream.seek(0)
    if stream.read(4) == b"PAR1":
        return UnreadableError("truncated-file", "the Parquet file has no valid footer", action="upload the whole file")
    return UnreadableError(
        "wrong-format", "the file is not Parquet", action="use the file extension of the actual format"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(_is_text(kind) or numeric or pa.types.is_null(kind))


def _check_type(name: str, kind: pa.DataType) -> None:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_scalar(kind):
        return
    raise UnreadableError(
        "wrong-type",
        f"column {pointer_to(name)[1:]} has an unsupported Parquet type (not text, number, boolean or list)",
        action="write the column as text",
    )


def _records(
    stream: BinaryIO, types: dict[str, pa.DataType], budget: Budget, findings: FileFindings
) -> Iterator[Record]:
    # Text columns are read as dictionaries, so that one long value repeated in 10^9 rows is stored once.
    flat = tuple(name for name, kind in types.items() if _is_text(kind) and not pa.types.is_dictionary(kind))
    size = _FLAT_BATCH if all(_is_scalar(kind) for kind in types.values()) else _NESTED_BATCH
    number = 0
    try:
        for batch in _open(stream, flat).iter_batches(batch_size=size, columns=list(types), use_threads=False):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            _check_lengths(columns, budget, number)
            for index in range(batch.num_rows):
                number += 1
                values = ((name, column[index]) for name, column in columns.items())
                record = _record(values, number, budget, findings)
                if record is not None:
                    yield number, record
    except MemoryError:
        message, action = "a row group or page needs more memory than allowed", "write smaller row groups and pages"
        raise UnreadableError("needs-too-much-memory", message, action=action, line=number + 1) from None
    except _PARQUET_ERRORS:
        message, action = "the file is corrupted from this row on", "write the file again"
        raise UnreadableError("broken-parquet", message, action=action, line=number + 1) from None


def _check_lengths(columns: dict[str, pa.Array], budget: Budget, before: int) -> None:
    """Check text lengths of a batch before its values become Python objects.

    Raises:
        UnreadableError: a text exceeds the limit.
    """
    for name, column in columns.items():
        longest = max((pc.max(pc.binary_length(leaf)).as_py() or 0 for leaf in _text_leaves(column)), default=0)
        if longest > budget.max_value:
            raise UnreadableError(
                "line-too-long",
                f"column {printable(name)} has a value longer than {budget.max_value:,} bytes",
                line=before + 1,
            )


def _text_leaves(column: pa.Array) -> Iterator[pa.Array]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from _text_leaves(column.dictionary)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _text_leaves(column.values)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _text_leaves(column.field(number))
    elif pa.types.is_string_view(kind):
        yield column.cast(pa.large_string())
    elif _is_text(kind):
        yield column


def _record(
    values: Iterator[tuple[str, pa.Scalar]], number: int, budget: Budget, findings: FileFindings
) -> dict[str, Any] | None:
    record: dict[str, Any] = {}
    for name, scalar in values:
        try:
            record[name] = value = scalar.as_py()
        except UnicodeDecodeError:
            findings.add("error", "not-utf-8", "the value is not UTF-8", line=number, pointer=pointer_to(name))
            return None
        budget.spend_bytes(_size(value))
    return record


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return sum(map(_size, value))
    return 8
