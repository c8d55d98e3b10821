"""Finds personal data by regular expression and masks it. Names and postal addresses are not detected.

Matches are verified: card numbers by the Luhn checksum (ISO/IEC 7812-1), IBANs by the format of the country and mod 97
(ISO 13616), US social security numbers by unissued areas, IP addresses by the standard library.
Every pattern is bounded or anchored at a boundary, and each repetition consumes one character in one way, so that
matching takes linear time with a small factor.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from stdnum import iban, luhn, numdb

_CARD_DIGITS = range(13, 20)
_IBANS = numdb.get("iban")


@dataclass(frozen=True)
class _Kind:
    pattern: re.Pattern[str]
    length: Callable[[str], int]
    """Return the length of the personal data at the start of a candidate; 0 if there is none."""


def _full_length(candidate: str) -> int:
    return len(candidate)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _card(candidate: str) -> int:
    digits = _digits(candidate)
    return len(candidate) if len(digits) in _CARD_DIGITS and luhn.is_valid(digits) and int(digits) else 0


@cache
def _iban_length(country: str) -> int:
    """Return the length of the IBANs of a country, 0 when it has none."""
    fields = re.findall("[0-9]+", "".join(part.get("bban", "") for _, part in _IBANS.info(country)))
    return sum(map(int, fields)) + len("DE00") if fields else 0


def _iban(candidate: str) -> int:
    length = _iban_length(candidate[:2])
    letters = [end for end, char in enumerate(candidate, start=1) if char != " "]
    if not length or len(letters) < length:
        return 0
    end = letters[length - 1]
    if candidate[end : end + 1].isalnum() or not iban.is_valid(candidate[:end], check_country=False):
        return 0
    return end


def _ip(candidate: str) -> int:
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return 0
    return len(candidate)


_KINDS: Mapping[str, _Kind] = {
    "email": _Kind(
        re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@])"), _full_length
    ),
    "iban": _Kind(re.compile(r"(?<![\w])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,40}(?!\w)"), _iban),
    "credit-card": _Kind(re.compile(r"(?<![\w.-])[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}(?![\w-]|\.[0-9])"), _card),
    "us-ssn": _Kind(
        re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])"), _full_length
    ),
    "ip-address": _Kind(
        re.compile(
            r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w:]|\.[0-9])"
            r"|(?:[0-9A-Fa-f]{1,4}:){1,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:]))"
        ),
        _ip,
    ),
    "phone": _Kind(
        re.compile(
            r"(?<![\w.+-])(?:\+[0-9](?:[ .-]?\(?[0-9]\)?){7,14}"  # ITU-T E.164: at most 15 digits
            r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4})(?![\w-])"
        ),
        _full_length,
    ),
}
KINDS = tuple(_KINDS)
_CANDIDATE = re.compile(r"[0-9]|@")


def mask(text: str, kinds: Sequence[str] = KINDS) -> tuple[str, Counter[str]]:
    """Replace each match by a tag like ``[EMAIL]``; return the text and the number of matches by kind.

    Masking is repeated until nothing matches: a replacement may turn the adjacent text into a match.
    """
    counts: Counter[str] = Counter()
    if not _CANDIDATE.search(text):
        return text, counts
    chosen = [kind for kind in _KINDS if kind in kinds]
    while True:
        before = counts.total()
        for name in chosen:
            text = _mask_kind(text, name, counts)
        if counts.total() == before:
            return text, counts


def _mask_kind(text: str, name: str, counts: Counter[str]) -> str:
    if name == "email" and "@" not in text:
        return text
    kind, tag = _KINDS[name], f"[{name.upper().replace('-', '_')}]"

    def replace(match: re.Match[str]) -> str:
        candidate = match[0]
        end = kind.length(candidate)
        if not end:
            return candidate
        counts[name] += 1
        return tag + candidate[end:]

    return kind.pattern.sub(replace, text)
