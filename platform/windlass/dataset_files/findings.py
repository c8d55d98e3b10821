"""Collects findings about a dataset: bounded in number, and without row content."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from windlass.domain.datasets import Finding

MAX_PER_CODE = 20
"""Findings of one code that are listed individually; the others are summed in one finding with a count."""
_NAME_LENGTH = 80
_NAMES_SHOWN = 20
_ORDER = {"error": 0, "warning": 1, "info": 2}

Severity = Literal["error", "warning", "info"]


class FindingFields(TypedDict, total=False):
    """Optional fields of a Finding: location, number of occurrences, and the recommended action."""

    action: str
    file: str
    line: int | None
    pointer: str
    count: int


class Findings:
    """Findings, listed up to a limit per code and counted beyond it."""

    def __init__(self) -> None:
        self._shown: dict[tuple[Severity, str], list[Finding]] = {}
        self._counts: Counter[tuple[Severity, str]] = Counter()

    def add(self, severity: Severity, code: str, message: str, **fields: Unpack[FindingFields]) -> None:
        """Add a finding. ``message`` may contain column names and labels, never other row content."""
        key = (severity, code)
        self._counts[key] += fields.get("count", 1)
        shown = self._shown.setdefault(key, [])
        if len(shown) < MAX_PER_CODE:
            shown.append(Finding(code=code, severity=severity, message=message, **fields))

    @property
    def rejected(self) -> bool:
        """Whether any finding is an error."""
        return any(severity == "error" for severity, _ in self._shown)

    def collect(self) -> tuple[Finding, ...]:
        """Return the findings, errors first; the counts of one code add up to its number of occurrences."""
        collected: list[Finding] = []
        for key in sorted(self._shown, key=lambda key: _ORDER[key[0]]):
            shown = self._shown[key]
            collected.extend(shown)
            if more := self._counts[key] - sum(finding.count for finding in shown):
                severity, code = key
                message = f"{more:,} more findings of this kind"
                collected.append(
                    Finding(code=code, severity=severity, message=message, action=shown[0].action, count=more)
                )
        return tuple(collected)


@dataclass(frozen=True)
class FileFindings:
    """Adds findings about one file."""

    findings: Findings
    file: str

    def add(self, severity: Severity, code: str, message: str, **fields: Unpack[FindingFields]) -> None:
        """Add a finding about this file."""
        fields["file"] = self.file
        self.findings.add(severity, code, message, **fields)


def printable(name: str) -> str:
    """Return a column, label or file name for display: one line, no control characters, at most 80 characters."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[: _NAME_LENGTH + 1])
    return clean if len(clean) <= _NAME_LENGTH else clean[: _NAME_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"


def name_list(names: tuple[str, ...]) -> str:
    """Return at most 20 names as ``a, b, "c, d"``."""
    printed = (printable(name) or "(no name)" for name in names[:_NAMES_SHOWN])
    shown = ", ".join(f'"{name}"' if "," in name else name for name in printed)
    return f"{shown} and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else shown or "none"


def pointer_to(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of these parts."""
    escaped = (printable(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join("/" + part for part in escaped)
