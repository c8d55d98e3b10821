"""Decides how the rows of a file carry the examples: which row format, and which column is which field."""

from collections.abc import Mapping
from dataclasses import dataclass

from windlass.domain.datasets import RowFormat
from windlass.domain.specs import Task
from windlass_pipelines.data.findings import name_list, printable
from windlass_pipelines.data.sources import UnreadableError

_REQUIRED: Mapping[RowFormat, tuple[str, ...]] = {
    RowFormat.TEXT_LABEL: ("text", "label"),
    RowFormat.MESSAGES: ("messages",),
    RowFormat.PROMPT_COMPLETION: ("prompt", "completion"),
    RowFormat.ALPACA: ("instruction", "output"),
}
_OPTIONAL: Mapping[RowFormat, tuple[str, ...]] = {
    RowFormat.TEXT_LABEL: ("group",),
    RowFormat.MESSAGES: ("group",),
    RowFormat.PROMPT_COMPLETION: ("system", "group"),
    RowFormat.ALPACA: ("input", "system", "history", "group"),
}
FORMATS: Mapping[Task, tuple[RowFormat, ...]] = {
    Task.TEXT_CLASSIFICATION: (RowFormat.TEXT_LABEL,),
    Task.CHAT: (RowFormat.MESSAGES, RowFormat.PROMPT_COMPLETION, RowFormat.ALPACA),
}


@dataclass(frozen=True)
class Shape:
    """A row format and the file's column for each of its fields that the file has."""

    row_format: RowFormat
    columns: Mapping[str, str]


def choose_shape(task: Task, wanted: RowFormat | None, mapping: Mapping[str, str], columns: tuple[str, ...]) -> Shape:
    """Return the shape of a file with ``columns``; ``mapping`` is the user's field → column.

    Raises:
        UnreadableError: the row format is of another task, the mapping names an unknown field or column, or a
            required column is missing; says which columns there are.
    """
    row_format = wanted or _detect(task, mapping, columns)
    if row_format not in FORMATS[task]:
        raise UnreadableError(
            "wrong-row-format",
            f"row format {row_format.value} is not for task {task.value}",
            action=f"use {name_list(tuple(known.value for known in FORMATS[task]))}",
        )
    fields = _REQUIRED[row_format] + _OPTIONAL[row_format]
    if unknown := tuple(field for field in mapping if field not in fields):
        raise UnreadableError(
            "unknown-field",
            f"options.columns maps {name_list(unknown)}, which row format {row_format.value} does not have",
            action=f"its fields are {name_list(fields)}",
        )
    found: dict[str, str] = {}
    for field in fields:
        column = mapping.get(field, field)
        if column in columns:
            found[field] = column
        elif field in mapping or field in _REQUIRED[row_format]:
            raise _unknown_column(field, column, columns)
    return Shape(row_format, found)


def _detect(task: Task, mapping: Mapping[str, str], columns: tuple[str, ...]) -> RowFormat:
    formats = FORMATS[task]
    available = {*columns, *mapping}
    for row_format in formats:
        if available.issuperset(_REQUIRED[row_format]):
            return row_format
    if len(formats) == 1:
        return formats[0]
    shapes = "; ".join(f"{known.value}: {', '.join(_REQUIRED[known])}" for known in formats)
    raise UnreadableError(
        "unknown-column",
        f"no row format for task {task.value} fits; the file has the columns: {name_list(columns)}",
        action=f"give the columns of one of these, or map them in options.columns ({shapes})",
    )


def _unknown_column(field: str, column: str, columns: tuple[str, ...]) -> UnreadableError:
    separated = len(columns) == 1 and next((mark for mark in (";", "\t", "|", ",") if mark in columns[0]), None)
    action = (
        f"the header seems to be separated by {separated!r}: use a comma (.csv) or a tab (.tsv)"
        if separated
        else f'map it with options.columns, like {{"{field}": "<one of these columns>"}}'
    )
    return UnreadableError(
        "unknown-column",
        f"the file has no column {printable(column)} (for {field}); it has: {name_list(columns)}",
        action=action,
        line=1,
    )
