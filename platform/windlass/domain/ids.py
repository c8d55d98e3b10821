"""Identifiers and names: their format and validation.

An id is ``<kind>_<26 characters>``: 48 bits of Unix milliseconds and 80 random bits in lower-case
Crockford base32 (the ULID layout, https://github.com/ulid/spec), so that ids sort by creation time.
"""

import re
import secrets
import time
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_PATTERN = r"^[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26}$"

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_NAME_HINT = "use 1 to 40 characters: lower-case letters, digits and inner hyphens"


def encode_id(kind: str, milliseconds: int, entropy: int) -> str:
    """Return the id of ``kind`` for a Unix time in milliseconds and 80 bits of entropy."""
    number = (milliseconds & (2**48 - 1)) << 80 | entropy & (2**80 - 1)
    return kind + "_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def new_id(kind: str) -> str:
    """Return a new id of ``kind`` (``job``, ``run``, ``up``, ...)."""
    return encode_id(kind, time.time_ns() // 1_000_000, secrets.randbits(80))


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(_NAME_HINT)
    return value


_NAME_SCHEMA = {"type": "string", "pattern": NAME_PATTERN, "maxLength": 40, "examples": ["reviews"]}

# A validator instead of a pattern, so that the error describes the format instead of a regular expression.
Name = Annotated[str, AfterValidator(_name), WithJsonSchema(_NAME_SCHEMA)]
"""A user-defined name: a DNS label of at most 40 characters, so that derived Kubernetes names are valid."""


_MAX_SUBJECT = 128
USER_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._@+-]{0,126}[A-Za-z0-9])?$"


def _user_name(value: str) -> str:
    if not re.fullmatch(USER_NAME_PATTERN, value):
        raise ValueError("use 1 to 128 characters: letters, digits and inner . _ @ + -")
    return value


_USER_SCHEMA = {
    "type": "string",
    "pattern": USER_NAME_PATTERN,
    "maxLength": _MAX_SUBJECT,
    "examples": ["ada@example.org"],
}

UserName = Annotated[str, AfterValidator(_user_name), WithJsonSchema(_USER_SCHEMA)]
"""The name of a user: a name or an email address, as an identity provider knows it."""


def _group_name(value: str) -> str:
    if not 1 <= len(value) <= _MAX_SUBJECT or not value.isprintable() or value != value.strip():
        raise ValueError("use 1 to 128 printable characters, without blanks around them")
    return value


_GROUP_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _MAX_SUBJECT, "examples": ["ml-research"]}

GroupName = Annotated[str, AfterValidator(_group_name), WithJsonSchema(_GROUP_SCHEMA)]
"""The name of a group of an identity provider."""


def _alias(value: str) -> str:
    if value.isdigit():
        raise ValueError("must not be a number, because a number names a version")
    return value


AliasName = Annotated[Name, AfterValidator(_alias)]
"""The name of an alias of a model version: a name that is no number."""

MAX_INTEGER = 2**31 - 1
"""The largest integer accepted from callers unless a field has a lower limit: the maximum of an SQL INTEGER."""

Number = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
"""The number of a version, attempt or run, counted from 1 within its parent."""


def kubernetes_run_name(job_id: str, run: int) -> str:
    """Return the deterministic name of a job's n-th run: ``job-<26>-r<n>``, at most 47 characters."""
    return f"{job_id.replace('_', '-')}-r{run}"
