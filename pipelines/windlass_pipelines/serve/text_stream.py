"""From token ids to text, piece by piece: incremental decoding and stop sequences, both without touching a model."""

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"


class Detokenizer:
    """Turns token ids into text as they arrive.

    The pieces, and the rest that ``flush`` returns, add up to ``decode`` of all ids: a character whose UTF-8 bytes
    are spread over several tokens comes out once, whole, with the token that completes it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """Take the tokenizer's ``decode``: ids to text, special tokens left out."""
        self._decode = decode
        self._ids: list[int] = []
        # ids[_start:_read] were emitted already and are decoded again as context: a tokenizer may strip or join
        # blanks at the beginning of what it decodes, so that a token alone does not show its true text.
        self._start = 0
        self._read = 0

    def add(self, token: int) -> str:
        """Return the text that ``token`` completes, possibly empty."""
        self._ids.append(token)
        return self._take(final=False)

    def flush(self) -> str:
        """Return what was held back: bytes that no later token completed, as replacement characters."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(before) or (text.endswith(_REPLACEMENT) and not final):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]


class StopScanner:
    """Passes text on up to the first stop sequence, whatever pieces the text comes in.

    The stop sequence whose last character comes first ends the text; of two that end together, the longer. Text
    that may yet turn out to be the beginning of a stop sequence is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Take the stop sequences; empty ones are not allowed."""
        if not all(stops):
            raise ValueError("a stop sequence must not be empty")
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """Return the text that is safe to show; nothing any more once ``stopped``."""
        if self.stopped:
            return ""
        self._held += piece
        found = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """Return what was held back, when no more text comes."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)
