"""Finds the rows of a data subject: counts them, or leaves them out of a version."""

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from windlass.domain.datasets import DataRequest
from windlass.domain.erasures import ErasureQuery, normalize_search_text
from windlass_pipelines.data.row_store import RowStore, RowWriter
from windlass_pipelines.rows import Row


def row_matcher(query: ErasureQuery) -> Callable[[Row], bool]:
    """Return the test whether a row belongs to the data subject."""
    texts = [(text, unicodedata.normalize("NFC", text), normalize_search_text(text)) for text in query.contains]
    entries = [{column: normalize_search_text(value) for column, value in row.items()} for row in query.rows]

    def matches(row: Row) -> bool:
        values = _values(row)
        normalized = {column: [normalize_search_text(value) for value in found] for column, found in values.items()}
        for raw, composed, needle in texts:
            # A character may combine with the one before it, so the forms as written are searched too.
            if any(raw in value or composed in value for found in values.values() for value in found):
                return True
            if any(needle in value for found in normalized.values() for value in found):
                return True
        return any(
            all(value in normalized.get(column, ()) for column, value in entry.items())  # every column is equal
            for entry in entries
        )

    return matches


def _values(row: Row) -> dict[str, list[str]]:
    """Return the strings of a row by column; in a conversation every message is a text."""
    messages = row.get("messages")
    texts = [row.get("text")] if messages is None else [message["content"] for message in messages]
    columns: dict[str, list[Any]] = {"text": texts, "label": [row.get("label")], "group": [row.get("group")]}
    return {column: [value for value in found if isinstance(value, str)] for column, found in columns.items()}


def count_matches(request: DataRequest, read: Callable[[DataRequest, Path], RowStore], work: Path) -> tuple[int, ...]:
    """Return the number of matching rows of each input; ``read`` reads the rows of a request into a folder."""
    if request.erase is None:
        raise ValueError("a search needs a query")
    matches = row_matcher(request.erase)
    counts = []
    for number, (source, name) in enumerate(zip(request.inputs, request.names, strict=True)):
        part = {"operation": "clean", "inputs": (source,), "names": (name,)}
        rows = read(request.model_copy(update=part), work / f"search-{number}")
        counts.append(sum(matches(row) for _, row in rows.read_all()))
        rows.remove()
    return tuple(counts)


def erase_rows(query: ErasureQuery, rows: RowStore, folder: Path) -> tuple[RowStore, dict[str, Any]]:
    """Write the rows that do not match to the new ``folder``; return them and a record for the report."""
    matches = row_matcher(query)
    kept: Iterator[Any] = ((split, row) for split, row in rows.read_all() if not matches(row))
    with RowWriter(folder) as writer:
        for split, row in kept:
            writer.add(split, row)
    return writer.rows, {"op": "erase-rows", "rows_in": rows.total, "rows_out": writer.rows.total}
