"""Types of text and JSON that can be stored, read again, sent and shown.

A lone surrogate cannot be encoded as UTF-8, PostgreSQL stores no NUL, JSON has no NaN, and other control characters
change what a terminal shows. Text of callers (``TextConstraints``) has none of these. Output of programs may have
control characters: ``EncodableText`` goes to a file, ``StorableText`` and ``StorableObject`` go to the database.
"""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_PROBLEM = "must not contain half of a surrogate pair"
# C0 and C1 controls, and the characters that reorder text on a screen (Unicode TR 36, bidirectional overrides)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CONTROLS_OF_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def text_problem(text: str, *, multiline: bool = False) -> str:
    """Return what makes a text unfit to be stored, as the rest of a sentence; an empty string if nothing does."""
    if _SURROGATE.search(text):
        return _SURROGATE_PROBLEM
    found = (_CONTROLS_OF_LINES if multiline else _CONTROLS).search(text)
    if found is None:
        return ""
    return f"must not contain the control character U+{ord(found[0]):04X} (at position {found.start() + 1})"


@dataclass(frozen=True)
class TextConstraints:
    """Constraints of a text: a length, no control characters, no lone surrogates.

    Use it as ``Annotated[str, TextConstraints(max_length=200)]``. ``multiline`` allows line feed, carriage return and
    tab. Identifiers have a pattern instead: ``StringConstraints(pattern=...)``.
    """

    max_length: int
    min_length: int = 0
    multiline: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Build the validator."""
        text = core_schema.str_schema(min_length=self.min_length or None, max_length=self.max_length)
        return core_schema.no_info_after_validator_function(self._check, text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the constraints in OpenAPI."""
        controls = r"\u0000-\u0008\u000b\u000c\u000e-\u001f" if self.multiline else r"\u0000-\u001f"
        return handler(schema) | {"pattern": rf"^[^{controls}\u007f-\u009f\u202a-\u202e\u2066-\u2069]*$"}

    def _check(self, value: str) -> str:
        if problem := text_problem(value, multiline=self.multiline):
            raise ValueError(problem)
        return value


Description = Annotated[str, TextConstraints(max_length=2000, multiline=True)]
"""Free text that describes an object."""

DisplayName = Annotated[str, TextConstraints(max_length=200)]
"""One line that names an object for people; need not be unique."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
"""An id or name in a path or query parameter. An object of this id may not exist."""

EventCode = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A code or a metric's name: ``training_started``, ``weighted_f1``."""


def _encodable(text: str) -> str:
    if _SURROGATE.search(text):
        raise ValueError(_SURROGATE_PROBLEM)
    return text


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL")
    return _encodable(text)


def _storable_object(value: dict[str, Any]) -> dict[str, Any]:
    pending: list[Any] = [value]
    while pending:
        match pending.pop():
            case str() as text:
                _storable(text)
            case float() as number if not math.isfinite(number):
                raise ValueError("must not contain NaN or infinity")
            case dict() as mapping:
                pending += [*mapping.keys(), *mapping.values()]
            case list() | tuple() as items:
                pending += items
    return value


def replace_unencodable(text: str) -> str:
    """Return ``EncodableText``: surrogates, which Python makes from undecodable bytes, become question marks."""
    return _SURROGATE.sub("?", text)


def replace_unstorable(text: str) -> str:
    """Return ``StorableText``: surrogates and NUL become question marks."""
    return replace_unencodable(text).replace("\0", "?")


EncodableText = Annotated[str, AfterValidator(_encodable)]
"""Text for a file: everything but surrogates."""

StorableText = Annotated[str, AfterValidator(_storable)]
"""Text for a column of a database: neither surrogates nor NUL."""

StorableObject = Annotated[dict[str, Any], AfterValidator(_storable_object)]
"""A JSON object for a column of a database: storable text and finite numbers at every depth."""
