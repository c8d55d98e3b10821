"""Builds job specs from a file, flags and ``--set``; each overrides the ones before it."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from windlass.cli.text_input import decode_text, read_stdin
from windlass.domain.errors import InvalidError

YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""What PyYAML raises on invalid text: a tag whose value does not fit, such as ``!!timestamp x``, is no YAMLError."""
_MAX_BYTES = 1 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def load_spec(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON mapping; ``-`` is standard input. A top-level ``spec`` key is unwrapped.

    Raises:
        InvalidError: the file cannot be read, is too large, or is not a mapping.
    """
    data = load_document(path)
    if not isinstance(data, dict):
        raise InvalidError(
            f"{path}: expected a mapping of fields", hint="see docs/reference/job-spec.md for an example"
        )
    inner = data.get("spec") if set(data) == {"spec"} else data
    return dict(inner) if isinstance(inner, dict) else data


def load_document(path: Path) -> Any:
    """Read one YAML or JSON document.

    Raises:
        InvalidError: the file cannot be read, parsed, or is too large.
    """
    try:
        text = read_stdin(_MAX_BYTES + 1) if str(path) == "-" else _read(path)
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > _MAX_BYTES:
        raise InvalidError(f"{path} is larger than {_MAX_BYTES} characters")
    try:
        return yaml.safe_load(text)
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        position = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidError(f"{path}{position}: {getattr(error, 'problem', None) or 'invalid YAML'}") from error


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return decode_text(stream.read(_MAX_BYTES + 1), str(path))


def merge(base: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``base`` with the flags that are not None; flags are named by dotted paths."""
    spec = dict(base)
    for path, value in flags.items():
        if value is not None:
            _put(spec, path.split("."), value)
    return spec


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Parse assignments such as ``training.seed=1``; values are YAML.

    Raises:
        InvalidError: an assignment has another form.
    """
    assignments = {}
    for text in texts:
        path, separator, value = text.partition("=")
        if not separator or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", path):
            raise InvalidError(
                f"--set {text!r}: invalid value", hint="write FIELD=VALUE, for example --set training.seed=1"
            )
        try:
            assignments[path] = yaml.safe_load(value)
        except YAML_ERRORS as error:
            raise InvalidError(f"--set {path}: {value!r} is not a YAML value") from error
    return assignments


def parse_duration(text: str) -> int:
    """Parse a duration such as ``90``, ``90s``, ``15m``, ``2h`` or ``1d`` into seconds.

    Raises:
        InvalidError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if match is None:
        raise InvalidError(f"{text!r} is not a duration", hint="write a number with a unit: 90s, 15m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2] or "s"]


def parse_time(text: str | None) -> datetime | None:
    """Parse a time of ISO 8601, or a time span before now such as ``7d``.

    Raises:
        InvalidError: the text has another form.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))


def _put(spec: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = spec.get(part)
        spec[part] = dict(inner) if isinstance(inner, dict) else {}
        spec = spec[part]
    spec[path[-1]] = value
