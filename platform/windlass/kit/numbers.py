"""Numbers as text."""

import re

_BINARY = {"": 0, "B": 0, "KIB": 10, "MIB": 20, "GIB": 30, "TIB": 40, "KI": 10, "MI": 20, "GI": 30, "TI": 40}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]*)")


def count(amount: int, singular: str, plural: str = "") -> str:
    """Return an amount with its noun: ``1 row``, ``2 rows``, ``1,000 entries``. ``plural`` defaults to an added s."""
    return f"{amount:,} {singular if amount == 1 else plural or singular + 's'}"


def size(count: int) -> str:
    """Return a number of bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - binary units
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``24GiB``, ``512 MiB`` or ``1073741824``.

    Raises:
        ValueError: it is not a size, or its unit is not binary.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _BINARY:
        raise ValueError(f"{text[:40]!r} is not a size: write it as 24GiB or 512MiB")
    return int(float(match[1]) * (1 << _BINARY[match[2].upper()]))
