"""Incremental detokenization and stop sequences for streamed text."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Converts token ids to text incrementally.

    The returned texts, including that of ``flush``, concatenate to ``decode`` of all ids. A character whose UTF-8 bytes
    span several tokens is returned with the token that completes it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """``decode`` converts ids to text without special tokens."""
        self._decode = decode
        self._ids: list[int] = []
        # ids[_start:_read] are already emitted and are decoded again as context: a tokenizer may strip or join blanks
        # at the beginning of the decoded text.
        self._start = 0
        self._read = 0

    def add(self, token: int) -> str:
        """Return the text that ``token`` completes, possibly empty."""
        self._ids.append(token)
        return self._take(final=False)

    def flush(self) -> str:
        """Return the buffered rest: incomplete characters, as replacement characters."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(before) or (text.endswith(_REPLACEMENT) and not final):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]


class StopScanner:
    """Returns text up to the first stop sequence, independent of how the text is split.

    The stop sequence whose last character comes first ends the text; of two that end together, the longer one. Text
    that may be the beginning of a stop sequence is buffered.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Raise ``ValueError`` if a stop sequence is empty."""
        if not all(stops):
            raise ValueError("a stop sequence must not be empty")
        self._stops = tuple(stops)
        self._buffer = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """Return the text before any possible stop sequence; empty once ``stopped``."""
        if self.stopped:
            return ""
        self._buffer += piece
        matches = [(start + len(stop), start) for stop in self._stops if (start := self._buffer.find(stop)) >= 0]
        if matches:
            self.stopped = True
            released, self._buffer = self._buffer[: min(matches)[1]], ""
            return released
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        released, self._buffer = self._buffer[: len(self._buffer) - keep], self._buffer[len(self._buffer) - keep :]
        return released

    def flush(self) -> str:
        """Return the buffered text at the end of the input."""
        released, self._buffer = self._buffer, ""
        return released

    def _overlap(self, stop: str) -> int:
        longest = min(len(stop) - 1, len(self._buffer))
        return next((size for size in range(longest, 0, -1) if self._buffer.endswith(stop[:size])), 0)
