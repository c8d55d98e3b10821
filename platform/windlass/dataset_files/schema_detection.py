"""Detects the row format of a file and maps its columns to fields."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from windlass.dataset_files.findings import name_list, printable
from windlass.dataset_files.streams import UnreadableError
from windlass.dataset_files.tables import Table
from windlass.domain.ingest import RowFormat
from windlass.domain.specs import Task

_REQUIRED: Mapping[RowFormat, tuple[str, ...]] = {
    RowFormat.TEXT_LABEL: ("text", "label"),
    RowFormat.MESSAGES: ("messages",),
    RowFormat.SHAREGPT: ("conversations",),
    RowFormat.PROMPT_COMPLETION: ("prompt", "completion"),
    RowFormat.ALPACA: ("instruction", "output"),
}
_OPTIONAL: Mapping[RowFormat, tuple[str, ...]] = {
    RowFormat.TEXT_LABEL: ("group",),
    RowFormat.MESSAGES: ("group",),
    RowFormat.SHAREGPT: ("system", "group"),
    RowFormat.PROMPT_COMPLETION: ("system", "group"),
    RowFormat.ALPACA: ("input", "system", "history", "group"),
}
FORMATS: Mapping[Task, tuple[RowFormat, ...]] = {
    Task.TEXT_CLASSIFICATION: (RowFormat.TEXT_LABEL,),
    Task.CHAT: (RowFormat.MESSAGES, RowFormat.SHAREGPT, RowFormat.PROMPT_COMPLETION, RowFormat.ALPACA),
}


@dataclass(frozen=True)
class RowSchema:
    """A row format, and the file's column for each of its fields."""

    row_format: RowFormat
    columns: Mapping[str, str]


def detect_schema(task: Task, wanted: RowFormat | None, mapping: Mapping[str, str], table: Table) -> RowSchema:
    """Return the schema of a file; ``mapping`` is the user's field → column.

    Raises:
        UnreadableError: the row format belongs to another task, the mapping has an unknown field or column, or a
            required column is missing. The message lists the columns.
    """
    row_format = wanted or _detect(task, mapping, table)
    if row_format not in FORMATS[task]:
        raise UnreadableError(
            "wrong-row-format",
            f"row format {row_format.value} does not support task {task.value}",
            action=f"use {name_list(tuple(known.value for known in FORMATS[task]))}",
        )
    fields = _REQUIRED[row_format] + _OPTIONAL[row_format]
    if unknown := tuple(field for field in mapping if field not in fields):
        raise UnreadableError(
            "unknown-field",
            f"options.columns has unknown fields for row format {row_format.value}: {name_list(unknown)}",
            action=f"use the fields {name_list(fields)}",
        )
    chosen = {field: mapping.get(field, field) for field in fields}
    required = {*mapping, *_REQUIRED[row_format]}
    missing = {field: chosen[field] for field in fields if field in required and chosen[field] not in table.columns}
    if missing:
        raise _missing_columns(missing, table)
    return RowSchema(row_format, {field: column for field, column in chosen.items() if column in table.columns})


def internal_schema(task: Task) -> RowSchema:
    """Return the schema of the internal form."""
    row_format = FORMATS[task][0]
    return RowSchema(row_format, {field: field for field in _REQUIRED[row_format] + _OPTIONAL[row_format]})


def _detect(task: Task, mapping: Mapping[str, str], table: Table) -> RowFormat:
    formats = FORMATS[task]
    available = {*table.columns, *mapping}
    for row_format in formats:
        if available.issuperset(_REQUIRED[row_format]):
            return row_format
    if len(formats) == 1:
        return formats[0]
    schemas = "; ".join(f"{known.value}: {', '.join(_REQUIRED[known])}" for known in formats)
    message = f"no row format of task {task.value} matches the columns"
    if not table.has_header:
        raise _no_header(message, table)
    raise UnreadableError(
        "unknown-column",
        f"{message}: {name_list(tuple(table.columns))}",
        action=f"rename the columns, or map them with options.columns ({schemas})",
        columns=tuple(table.columns),
    )


def _missing_columns(missing: Mapping[str, str], table: Table) -> UnreadableError:
    """Build the error; ``missing`` are columns by field."""
    columns = tuple(table.columns)
    noun = "column" if len(missing) == 1 else "columns"
    absent = ", ".join(f"{printable(column)} (for {field})" for field, column in missing.items())
    message = f"the file has no {noun} {absent}"
    if not table.has_header:
        return _no_header(message, table, tuple(missing))
    other = next((char for char in ";\t|," if char != table.delimiter and char in "".join(columns)), None)
    unmapped: tuple[str, ...] = ()
    if len(columns) == 1 and table.delimiter and other:
        action = f"the header seems to be delimited by {other!r}: set the option delimiter"
    elif {"annotations", "data"} <= {*columns}:
        action = "a Label Studio export with annotations is not supported: export it as JSON-MIN or CSV"
    else:
        action = f"map the fields with options.columns, e.g. {json.dumps(dict.fromkeys(missing, 'COLUMN'))}"
        unmapped = tuple(missing)
    return UnreadableError(
        "unknown-column",
        f"{message}; it has: {name_list(columns)}",
        action=action,
        line=1 if table.delimiter else None,
        columns=columns,
        missing=unmapped,
    )


def _no_header(message: str, table: Table, missing: tuple[str, ...] = ()) -> UnreadableError:
    """Build the error; its message has no content of the first row."""
    return UnreadableError(
        "no-header",
        f"{message}; its first row looks like data",
        action="write the column names in the first row, or set the option header to false and map columns by number",
        line=1,
        columns=tuple(table.columns),
        missing=missing,
    )
