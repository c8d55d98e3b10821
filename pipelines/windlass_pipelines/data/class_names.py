"""Names of classes in the metadata of Parquet files, as Hugging Face datasets write them (``ClassLabel``)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from windlass.dataset_files.findings import FileFindings, name_list, pointer_to
from windlass.dataset_files.tables import Record

_KEY = b"huggingface"
_MISSING = -1
"""The index of a row without a label."""


def class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the names of the classes by column; metadata in another form has none."""
    try:
        features = json.loads((schema.metadata or {}).get(_KEY, b"{}"))["info"]["features"]
        columns = {name: feature["names"] for name, feature in features.items() if _is_class_label(feature)}
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
    return {
        name: tuple(names)
        for name, names in columns.items()
        if name in schema.names and pa.types.is_integer(schema.field(name).type) and all(map(_is_name, names))
    }


def _is_class_label(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())


def named_classes(
    records: Iterator[Record], names: Mapping[str, Sequence[str]], findings: FileFindings
) -> Iterator[Record]:
    """Replace the indices of the columns by the names of their classes."""
    for column, classes in names.items():
        message = f"the integers of column {name_list((column,))} are read as the names of {len(classes):,} classes"
        findings.add("info", "class-names", message)
    for line, values in records:
        named = dict(values)
        for column, classes in names.items():
            index = named[column]
            if index is None or index == _MISSING:
                named[column] = None
            elif 0 <= index < len(classes):
                named[column] = classes[index]
            else:
                message = f"the class has no name: the metadata names {len(classes):,} classes"
                findings.add("error", "unknown-class", message, line=line, pointer=pointer_to(column))
                break
        else:
            yield line, named
