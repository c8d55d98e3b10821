"""Finds personal data by pattern, and masks it. Names and addresses of people have no pattern and are not found.

Checked beyond the pattern: card numbers by the Luhn sum (ISO/IEC 7812-1), IBANs by country length and mod 97
(ISO 13616), US social security numbers by the areas never issued, IP addresses by the standard library.
Every pattern is bounded or starts at a boundary, so that none needs more than linear time.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_IBAN_LENGTHS = dict(
    re.findall(
        r"([A-Z]{2})([0-9]{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
        "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
)
_CARD_DIGITS = range(13, 20)
_PHONE_DIGITS = range(8, 16)  # ITU-T E.164: at most 15


@dataclass(frozen=True)
class _Kind:
    pattern: re.Pattern[str]
    length: Callable[[str], int]
    """Characters of a candidate, from its start, that are personal data; 0 for none."""


def _whole(candidate: str) -> int:
    return len(candidate)


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _card(candidate: str) -> int:
    digits = [int(digit) for digit in reversed(_digits(candidate))]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return len(candidate) if len(digits) in _CARD_DIGITS and total % 10 == 0 and any(digits) else 0


def _iban(candidate: str) -> int:
    wanted = int(_IBAN_LENGTHS.get(candidate[:2], 0))
    compact, end = "", 0
    for end, char in enumerate(candidate, start=1):  # noqa: B007 - the end is used after the loop
        compact += "" if char == " " else char
        if len(compact) == wanted:
            break
    if not wanted or len(compact) != wanted or candidate[end : end + 1].isalnum():
        return 0
    number = int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4]))
    return end if number % 97 == 1 else 0


def _ip(candidate: str) -> int:
    try:
        ipaddress.ip_address(candidate)
    except ValueError:
        return 0
    return len(candidate)


def _phone(candidate: str) -> int:
    return len(candidate) if len(_digits(candidate)) in _PHONE_DIGITS or not candidate.startswith("+") else 0


_KINDS: Mapping[str, _Kind] = {
    "email": _Kind(re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@])"), _whole),
    "iban": _Kind(re.compile(r"(?<![\w])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,40}(?!\w)"), _iban),
    "credit-card": _Kind(re.compile(r"(?<![\w.-])[2-6][0-9]{3}(?:[ -]?[0-9]){9,15}(?![\w-]|\.[0-9])"), _card),
    "us-ssn": _Kind(re.compile(r"(?<![\w-])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![\w-])"), _whole),
    "ip-address": _Kind(
        re.compile(
            r"(?<![\w.:])(?:(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w:]|\.[0-9])"
            r"|(?:[0-9A-Fa-f]{1,4}:){1,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:]))"
        ),
        _ip,
    ),
    "phone": _Kind(
        re.compile(
            r"(?<![\w.+-])(?:\+[0-9]{1,3}(?:[ .-]?\(?[0-9]{1,5}\)?){2,6}"
            r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4})(?![\w-])"
        ),
        _phone,
    ),
}
KINDS = tuple(_KINDS)
_POSSIBLE = re.compile(r"[0-9]|@")


def mask(text: str, kinds: Sequence[str] = KINDS) -> tuple[str, Counter[str]]:
    """Return the text with each find replaced by a tag like ``[EMAIL]``, and how many of each kind there were.

    Masking is repeated until nothing is found: what stood beside a find may become one when it is gone.
    """
    found: Counter[str] = Counter()
    if not _POSSIBLE.search(text):
        return text, found
    chosen = [kind for kind in _KINDS if kind in kinds]
    while True:
        before = found.total()
        for name in chosen:
            text = _mask_kind(text, name, found)
        if found.total() == before:
            return text, found


def _mask_kind(text: str, name: str, found: Counter[str]) -> str:
    if name == "email" and "@" not in text:
        return text
    kind, tag = _KINDS[name], f"[{name.upper().replace('-', '_')}]"

    def replace(match: re.Match[str]) -> str:
        candidate = match[0]
        end = kind.length(candidate)
        if not end:
            return candidate
        found[name] += 1
        return tag + candidate[end:]

    return kind.pattern.sub(replace, text)
