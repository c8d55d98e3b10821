"""Tokenizes text of users so that special tokens typed in it are ordinary text; used by training and serving.

A chat template writes special tokens such as ``<|im_end|>`` around each message. The same characters inside a message
must not end the turn or begin another one. In a message they are replaced by a marker before the template is
rendered, and the marker's text is tokenized without special tokens afterwards. A message without them is rendered and
tokenized as by Transformers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from windlass.kit.memory import limited_growth

Message = Mapping[str, str]
Render = Callable[[Sequence[dict[str, str]]], str]
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Characters of the private use area around the index of a reserved string; both are reserved themselves."""
_TEMPLATE_MEMORY = 512 << 20
"""A template can build text of any size from constants, also when Jinja compiles it."""
_MARKER = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")


class TokenSpans(NamedTuple):
    """Token ids and, for each, the index of its first character in the rendered text."""

    ids: list[int]
    starts: list[int]


class PromptTokenizer:
    """Renders conversations and tokenizes the result."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer`` is a fast tokenizer of Transformers."""
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        special = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
        longest_first = sorted(filter(None, special), key=lambda token: (-len(token), token))
        self._reserved = [*longest_first, _OPEN, _CLOSE]
        self._indices = {text: index for index, text in enumerate(self._reserved)}
        self._pattern = re.compile("|".join(map(re.escape, self._reserved)))

    def render(self, messages: Sequence[Message], render: Render) -> str:
        """Return ``render(messages)`` with markers instead of the special tokens in the messages.

        Raises:
            MemoryError: the chat template needs more than 512 MiB.
        """
        with limited_growth(_TEMPLATE_MEMORY):
            return render([{**message, "content": self.escape(message["content"])} for message in messages])

    def escape(self, content: str) -> str:
        """Replace every special token and every character of a marker by a marker."""
        return self._pattern.sub(lambda match: f"{_OPEN}{self._indices[match[0]]}{_CLOSE}", content)

    def tokenize(self, text: str) -> TokenSpans:
        """Tokenize rendered text; the text of a marker becomes ordinary tokens."""
        spans = TokenSpans([], [])
        position = 0
        for match in _MARKER.finditer(text):
            self._append(spans, text[position : match.start()], position, literal=False)
            self._append(spans, self._reserved[int(match[1])], match.start(), literal=True)
            position = match.end()
        self._append(spans, text[position:], position, literal=False)
        return spans

    def _append(self, spans: TokenSpans, text: str, start: int, *, literal: bool) -> None:
        if not text:
            return
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=literal,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        spans.ids.extend(encoded["input_ids"])
        spans.starts.extend(start if literal else start + first for first, _ in encoded["offset_mapping"])
