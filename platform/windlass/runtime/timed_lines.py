"""Log text that arrives in pieces, with the time at which each line began."""

from collections.abc import Callable
from datetime import UTC, datetime

from windlass.domain.reports import LogItem

_MAX_CHARACTERS = 65_536


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TimedLines:
    """A buffer of log text. Lines that began in the same second become one item. Not thread-safe."""

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self._now = now
        self._lines: list[tuple[datetime, str]] = []
        """Complete lines: the second in which they began, and their text."""
        self._partial = ""
        self._partial_since = now()

    def __bool__(self) -> bool:
        """Whether there is text."""
        return bool(self._lines or self._partial)

    def add(self, text: str) -> None:
        """Add text at the current time."""
        if not text:
            return
        now = self._now().replace(microsecond=0)
        if not self._partial:
            self._partial_since = now
        self._partial += text
        first, newline, rest = self._partial.partition("\n")
        if newline:
            self._append(self._partial_since, first + newline)
            end = rest.rfind("\n") + 1
            if end:
                self._append(now, rest[:end])
            self._partial, self._partial_since = rest[end:], now
        if len(self._partial) >= _MAX_CHARACTERS:
            self._append(self._partial_since, self._partial)
            self._partial = ""

    def take(self, *, include_partial: bool = False) -> list[LogItem]:
        """Remove and return the complete lines; with ``include_partial`` also a line without an end."""
        if include_partial and self._partial:
            self._append(self._partial_since, self._partial)
            self._partial = ""
        items = [
            LogItem(text=text[start : start + _MAX_CHARACTERS], time=time)
            for time, text in self._lines
            for start in range(0, len(text), _MAX_CHARACTERS)
        ]
        self._lines = []
        return items

    def _append(self, time: datetime, text: str) -> None:
        if self._lines and self._lines[-1][0] == time:
            text = self._lines.pop()[1] + text
        self._lines.append((time, text))
