"""Encodes conversations into token ids and loss targets for the assistant's messages.

The text is rendered with the model's chat template and tokenized in segments that end where a generation prompt ends
and where a turn ends. So the ids of a prompt do not depend on the answer after it, and training sees the same tokens as
generation. Special tokens typed in a message are ordinary text (``windlass_pipelines.prompts``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from windlass_pipelines.prompts import PromptTokenizer, TokenSpans
from windlass_pipelines.rows import is_target
from windlass_pipelines.train.batches import EncodedExample
from windlass_pipelines.train.result import TrainingError

IGNORE_INDEX = -100
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Segment:
    """A part of the rendered text; an assistant message has the index at which the text of its answer ends."""

    text: str
    answer_end: int | None = None
    is_target: bool = False
    """Whether the answer is learned; otherwise it is context."""


class ConversationEncoder:
    """Renders and tokenizes conversations with one tokenizer."""

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
        self._prompts = PromptTokenizer(tokenizer)
        self._special = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.eos_token_ids = frozenset({int(tokenizer.eos_token_id), self._end_of_turn()})
        """Tokens that end an answer."""

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of the conversation with the generation prompt."""
        return self._prompts.tokenize(self._render(messages, add_generation_prompt=True)).ids

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """Split the rendered conversation into assistant messages and the text between them.

        Raises:
            TrainingError: ``template_not_incremental``: the template renders earlier turns differently when later turns
                follow.
        """
        segments: list[Segment] = []
        rendered = ""
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(messages[:index], add_generation_prompt=True)
            with_answer = self._render(messages[: index + 1])
            if not prompt.startswith(rendered) or not with_answer.startswith(prompt):
                raise TrainingError(
                    "template_not_incremental",
                    "the chat template renders earlier turns differently when an answer follows",
                )
            answer = with_answer[len(prompt) :]
            segments.append(Segment(prompt[len(rendered) :]))
            end = self._answer_end(answer, message["content"])
            segments.append(Segment(answer, answer_end=end, is_target=is_target(message)))
            rendered = with_answer
        return segments

    def encode(self, messages: Sequence[Message]) -> EncodedExample:
        """Return ids and targets; the targets are the tokens of each learned answer and the token that ends its turn.

        Each target is at its token's index (the model's loss shifts by one). Text after the last answer is dropped.
        """
        ids: list[int] = []
        targets: list[int] = []
        for segment in self.segments(messages):
            spans = self._prompts.tokenize(segment.text)
            tokens, target_count = spans.ids, 0
            if segment.answer_end is not None:
                target_count = self._answer_length(spans, segment.answer_end)
                if target_count == 0:
                    tokens, target_count = [*tokens, int(self._tokenizer.eos_token_id)], len(tokens) + 1
            if not segment.is_target:
                target_count = 0
            ids += tokens
            targets += tokens[:target_count] + [IGNORE_INDEX] * (len(tokens) - target_count)
        return EncodedExample(np.asarray(ids, dtype=np.int32), np.asarray(targets, dtype=np.int64))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _answer_end(self, rendered: str, content: str) -> int:
        """Return the index after the answer in its rendered text; templates may strip white space around it."""
        text = self._prompts.escape(content).strip()
        start = rendered.find(text)
        return 0 if start < 0 else start + len(text)

    def _answer_length(self, spans: TokenSpans, answer_end: int) -> int:
        """Return the number of tokens up to and including the first special token after the answer, 0 without one."""
        return next(
            (
                index + 1
                for index, (token, start) in enumerate(zip(spans.ids, spans.starts, strict=True))
                if token in self._special and start >= answer_end
            ),
            0,
        )

    def _end_of_turn(self) -> int:
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        segment = self.segments(messages)[-1]
        spans = self._prompts.tokenize(segment.text)
        length = self._answer_length(spans, segment.answer_end or 0)
        return spans.ids[length - 1] if length else int(self._tokenizer.eos_token_id)

    def _render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        try:
            return self._prompts.render(
                [{"role": m["role"], "content": m["content"]} for m in messages],
                lambda escaped: str(
                    self._tokenizer.apply_chat_template(
                        escaped, tokenize=False, add_generation_prompt=add_generation_prompt
                    )
                ),
            )
        except TimeoutError:
            raise  # from a caller's time limit
        except MemoryError as error:
            raise TrainingError("template_refused", "the chat template needs too much memory") from error
        except Exception as error:  # a template can raise anything
            raise TrainingError("template_refused", f"the chat template rejects a conversation: {error}") from error
