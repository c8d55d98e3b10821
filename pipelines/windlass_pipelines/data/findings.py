"""Collects what is wrong with a dataset: bounded however much is wrong, and free of row content."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from windlass.domain.datasets import Finding

SHOWN = 20
"""Findings of one code that keep their own place; the rest of that code is one finding with a count."""
_NAME_LENGTH = 80
_NAMES_SHOWN = 20
_ORDER = {"error": 0, "warning": 1, "info": 2}

Severity = Literal["error", "warning", "info"]


class Place(TypedDict, total=False):
    """Where a finding stands, how often, and what to do: the optional fields of a Finding."""

    action: str
    file: str
    line: int | None
    pointer: str
    count: int


class Findings:
    """A list of findings, capped per code and counted beyond the cap."""

    def __init__(self) -> None:
        self._shown: dict[tuple[Severity, str], list[Finding]] = {}
        self._seen: Counter[tuple[Severity, str]] = Counter()

    def add(self, severity: Severity, code: str, message: str, **place: Unpack[Place]) -> None:
        """Record one finding. ``message`` may name columns and labels, never other content of a row."""
        key = (severity, code)
        self._seen[key] += place.get("count", 1)
        shown = self._shown.setdefault(key, [])
        if len(shown) < SHOWN:
            shown.append(Finding(code=code, severity=severity, message=message, **place))

    @property
    def rejected(self) -> bool:
        """Whether any finding is an error."""
        return any(severity == "error" for severity, _ in self._shown)

    def collect(self) -> tuple[Finding, ...]:
        """Return the findings, errors first; the counts of one code add up to how often it was found."""
        collected: list[Finding] = []
        for key in sorted(self._shown, key=lambda key: _ORDER[key[0]]):
            shown = self._shown[key]
            collected.extend(shown)
            if more := self._seen[key] - sum(finding.count for finding in shown):
                severity, code = key
                message = f"{more:,} more findings of this kind"
                collected.append(
                    Finding(code=code, severity=severity, message=message, action=shown[0].action, count=more)
                )
        return tuple(collected)


@dataclass(frozen=True)
class FileFindings:
    """The findings of one file."""

    findings: Findings
    file: str

    def add(self, severity: Severity, code: str, message: str, **place: Unpack[Place]) -> None:
        """Record one finding in this file."""
        place["file"] = self.file
        self.findings.add(severity, code, message, **place)


def printable(name: str) -> str:
    """Return a column, label or file name fit for a report: one line, no control characters, at most 80 characters."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[: _NAME_LENGTH + 1])
    return clean if len(clean) <= _NAME_LENGTH else clean[: _NAME_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def name_list(names: tuple[str, ...]) -> str:
    """Return names for a sentence: ``a, b, c``, at most 20 of them."""
    shown = ", ".join(printable(name) for name in names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else shown or "none"


def pointer_to(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) with these parts."""
    escaped = (printable(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join("/" + part for part in escaped)
