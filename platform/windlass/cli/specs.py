"""Job specs from a file and flags: a flag wins over the file, ``--set`` over both."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from windlass.domain.errors import InvalidError

_MAX_BYTES = 1 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def load(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON mapping; ``-`` is standard input. A top-level ``spec`` key is unwrapped.

    Raises:
        InvalidError: not readable, too large, or no mapping.
    """
    data = documents(path)
    if not isinstance(data, dict):
        raise InvalidError(
            f"{path}: expected a mapping of fields", hint="see docs/reference/job-spec.md for an example"
        )
    inner = data.get("spec") if set(data) == {"spec"} else data
    return dict(inner) if isinstance(inner, dict) else data


def documents(path: Path) -> Any:
    """Read one YAML or JSON document.

    Raises:
        InvalidError: not readable or too large.
    """
    try:
        text = sys.stdin.read(_MAX_BYTES + 1) if str(path) == "-" else _read(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InvalidError(f"{path} cannot be read: {reason}") from error
    if len(text) > _MAX_BYTES:
        raise InvalidError(f"{path} is larger than {_MAX_BYTES} characters")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidError(f"{path}{place}: {getattr(error, 'problem', None) or 'not YAML'}") from error


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        return stream.read(_MAX_BYTES + 1)


def merged(base: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the flags that were given (not None), named by dotted paths."""
    spec = dict(base)
    for path, value in flags.items():
        if value is not None:
            _put(spec, path.split("."), value)
    return spec


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``training.seed=1`` texts; values are YAML, so numbers and lists are what they look like.

    Raises:
        InvalidError: not of that form.
    """
    found = {}
    for text in texts:
        path, separator, value = text.partition("=")
        if not separator or not re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", path):
            raise InvalidError(f"--set {text!r}", hint="write --set FIELD=VALUE, like --set training.seed=1")
        try:
            found[path] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InvalidError(f"--set {path}: {value!r} is no YAML value") from error
    return found


def seconds(text: str) -> int:
    """Read a length of time: ``90``, ``90s``, ``15m``, ``2h``, ``1d``.

    Raises:
        InvalidError: not of that form.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if found is None:
        raise InvalidError(f"{text!r} is no length of time", hint="write it like 90s, 15m, 2h or 1d")
    return int(found[1]) * _UNITS[found[2] or "s"]


def _put(spec: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = spec.get(part)
        spec[part] = dict(inner) if isinstance(inner, dict) else {}
        spec = spec[part]
    spec[path[-1]] = value
