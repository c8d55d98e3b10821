"""Validation errors as sentences: one table for the API, the model servers and the SDK."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from windlass.domain.errors import FieldProblem, InvalidError
from windlass.kit.numbers import count

_MAX_FIELDS = 20

_SENTENCES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "none_required": "must be null",
    "frozen_field": "cannot be changed",
    "string_type": "must be a string",
    "string_sub_type": "must be a string",
    "string_unicode": "must not contain half of a surrogate pair",
    "string_not_ascii": "must have ASCII characters only",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "is too large",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "iterable_type": "must be a list",
    "dict_type": "must be an object",
    "mapping_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "json_invalid": "is not valid JSON",
    "json_type": "is not valid JSON",
    "union_tag_invalid": "must be one of {expected_tags}, not {tag!r}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_pattern_mismatch": "has a form that is not allowed; it must match {pattern}",
    "datetime_type": "must be a time such as 2026-01-31T12:00:00Z",
    "datetime_parsing": "must be a time such as 2026-01-31T12:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-01-31T12:00:00Z",
    "datetime_object_invalid": "must be a time such as 2026-01-31T12:00:00Z",
    "timezone_aware": "must be a time with a time zone, such as 2026-01-31T12:00:00Z",
    "value_error": "{error}",
    "assertion_error": "{error}",
}
_COUNTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "string_too_short": lambda of: (
        "must not be empty" if of["min_length"] == 1 else f"must have at least {count(of['min_length'], 'character')}"
    ),
    "string_too_long": lambda of: f"must have at most {count(of['max_length'], 'character')}",
    "too_short": lambda of: f"must have at least {count(of['min_length'], 'item')}",
    "too_long": lambda of: f"must have at most {count(of['max_length'], 'item')}",
}
_UNKNOWN = "has a value that is not allowed"


def sentence(error: ErrorDetails | Mapping[str, Any]) -> str:
    """Return an error of pydantic as the rest of a sentence that starts with the field's name."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _COUNTED:
        return _COUNTED[kind](context)
    if kind == "union_tag_not_found":
        return f"needs the field {str(context['discriminator']).strip(chr(39))}"
    text = _SENTENCES.get(kind, _UNKNOWN).format_map(context)
    return text[:1].lower() + text[1:]


def field_problems(
    errors: Iterable[ErrorDetails | Mapping[str, Any]], pointer: Callable[[tuple[int | str, ...]], str]
) -> list[FieldProblem]:
    """Return one problem per field, at most 20; the alternatives of a union are joined by ``or``.

    Args:
        errors: the errors of pydantic.
        pointer: maps a location to a JSON pointer.
    """
    problems: dict[str, list[str]] = {}
    for error in errors:
        where = pointer(tuple(error["loc"]))
        if where not in problems and len(problems) == _MAX_FIELDS:
            break  # a body may have a hundred thousand wrong fields
        texts = problems.setdefault(where, [])
        if (text := sentence(error)) not in texts:
            texts.append(text)
    return [FieldProblem(where, ", or ".join(texts)) for where, texts in problems.items()]


def invalid(fields: Sequence[FieldProblem]) -> InvalidError:
    """Return the error of invalid fields; its message has the first one."""
    first = fields[0]
    more = f" (and {count(len(fields) - 1, 'more problem')})" if len(fields) > 1 else ""
    return InvalidError(f"{first.pointer or 'the body'}: {first.problem}{more}", fields=fields)


def json_pointer(location: tuple[int | str, ...], value: object) -> str:
    """Return the JSON pointer (RFC 6901) of a location in ``value``.

    A location of pydantic also has the tags of union members, which are no keys of the value; they are left out.
    """
    parts = []
    for index, part in enumerate(location):
        child = _child(value, part)
        if child is _ABSENT and index < len(location) - 1:
            continue
        if child is _ABSENT and not (isinstance(value, dict) and isinstance(part, str)):
            continue
        parts.append(str(part).replace("~", "~0").replace("/", "~1"))
        value = child
    return "".join(f"/{part}" for part in parts)


_ABSENT = object()


def _child(value: object, part: int | str) -> Any:
    if isinstance(value, dict):
        return value.get(part, _ABSENT)
    if isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT
