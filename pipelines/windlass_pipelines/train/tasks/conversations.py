"""From conversations to token ids, with the exact places of what the assistant says (pure, but for the tokenizer).

The text is the model's own chat template. It is tokenised in segments that end where inference ends a prompt and
where a turn ends, so that training sees the very tokens that generation sees: a prompt's ids never depend on the
answer after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from windlass_pipelines.train.batches import Example
from windlass_pipelines.train.outcome import TrainingError

IGNORED = -100
Message = dict[str, str]


@dataclass(frozen=True)
class Segment:
    """A run of text; ``spoken`` when the assistant says it and it is to be learned."""

    text: str
    spoken: bool


class Conversations:
    """Renders and tokenises with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer`` is a fast tokenizer with a chat template and an end-of-turn token.

        Raises:
            TrainingError: ``no_chat_template`` or ``no_end_token``.
        """
        if not tokenizer.chat_template:
            raise TrainingError("no_chat_template", "the base model's tokenizer has no chat template")
        if tokenizer.eos_token_id is None:
            raise TrainingError("no_end_token", "the base model's tokenizer has no end-of-sequence token")
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self.end_ids = frozenset({int(tokenizer.eos_token_id), self._end_of_turn()})
        """Tokens that end an answer."""

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids after which the model is to speak."""
        return self._ids(self._render(messages, speak=True))

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """Cut the rendered conversation into what the assistant says and the rest.

        Raises:
            TrainingError: ``template_not_incremental``: the template rewrites earlier turns when later ones come.
        """
        found: list[Segment] = []
        done = ""
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = self._render(messages[:index], speak=True), self._render(messages[: index + 1])
            if not before.startswith(done) or not after.startswith(before):
                raise TrainingError(
                    "template_not_incremental",
                    "the chat template renders earlier turns anew when an answer follows, so it cannot be told apart",
                )
            found += [Segment(before[len(done) :], spoken=False), Segment(after[len(before) :], spoken=True)]
            done = after
        return found

    def encode(self, messages: Sequence[Message]) -> Example:
        """Return ids and targets: each token of an answer and the token that ends its turn; nothing else.

        Targets stand at the token itself (the model's loss shifts by one). What follows the last answer is left out.
        """
        ids: list[int] = []
        targets: list[int] = []
        for segment in self.segments(messages):
            tokens = self._ids(segment.text)
            learned = self._turn_length(tokens) if segment.spoken else 0
            if segment.spoken and learned == 0:
                tokens, learned = [*tokens, int(self._tokenizer.eos_token_id)], len(tokens) + 1
            ids += tokens
            targets += tokens[:learned] + [IGNORED] * (len(tokens) - learned)
        return Example(np.asarray(ids, dtype=np.int32), np.asarray(targets, dtype=np.int64))

    def text(self, ids: Sequence[int]) -> str:
        """Return generated ids as the answer's text."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _turn_length(self, tokens: Sequence[int]) -> int:
        """Return how many tokens there are up to the one that ends the turn, 0 when there is none."""
        return next((place + 1 for place, token in enumerate(tokens) if token in self._special), 0)

    def _end_of_turn(self) -> int:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        spoken = self._ids(self.segments(messages)[-1].text)
        length = self._turn_length(spoken)
        return spoken[length - 1] if length else int(self._tokenizer.eos_token_id)

    def _render(self, messages: Sequence[Message], *, speak: bool = False) -> str:
        try:
            return cast(
                "str",
                self._tokenizer.apply_chat_template(
                    [{"role": m["role"], "content": m["content"]} for m in messages],
                    tokenize=False,
                    add_generation_prompt=speak,
                ),
            )
        except TimeoutError:
            raise  # a caller's time limit
        except Exception as error:  # templates raise what they like
            raise TrainingError("template_refused", f"the chat template refuses a conversation: {error}") from error

    def _ids(self, text: str) -> list[int]:
        return cast("list[int]", self._tokenizer(text, add_special_tokens=False)["input_ids"])
