"""Rendering of chat templates with a time and a size limit: a template is a program that comes with a model."""

import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from transformers import PreTrainedTokenizerBase

from windlass.domain.errors import ContextLengthError, InvalidError

_SECONDS = 2.0
_CHARACTERS_PER_TOKEN = 64
"""Far more than any tokenizer yields on text; a rendering beyond it cannot fit the model anyway."""


class _OutOfTimeError(BaseException):
    """Not an ``Exception``: a template's own error handling must not catch it."""


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], limit: int, seconds: float = _SECONDS
) -> list[int]:
    """Return the prompt's token ids, up to and with the opening of the assistant's turn.

    transformers renders in Jinja's immutable sandbox; this adds what the sandbox lacks, an end.

    Args:
        tokenizer: has the chat template.
        messages: ``role`` and ``content`` of each turn.
        limit: tokens that the model reads; a prompt must leave room for an answer.
        seconds: time for the template's program.

    Raises:
        InvalidError: the template refuses the conversation, runs too long, or the prompt is too long.
    """
    try:
        text = _within(seconds, tokenizer, messages)
    except _OutOfTimeError:
        raise InvalidError(f"the model's chat template did not end within {seconds:g} s") from None
    # Templates raise errors of their own on a turn order they do not know; Jinja's, and whatever they call.
    except Exception as error:
        raise InvalidError(f"the model's chat template refuses these messages: {error}") from error
    too_long = len(text) > limit * _CHARACTERS_PER_TOKEN
    ids: list[int] = [] if too_long else tokenizer.encode(text, add_special_tokens=False, verbose=False)
    if too_long or len(ids) >= limit:
        count = f"{len(ids)} tokens" if ids else f"{len(text)} characters"
        raise ContextLengthError.field(
            "/messages", f"the prompt has {count}, the model reads {limit} tokens with the answer", hint="shorten it"
        )
    return ids


def _within(seconds: float, tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    deadline = time.monotonic() + seconds

    def watch(_frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise _OutOfTimeError
        return watch

    before = sys.gettrace()
    # Jinja compiles to Python: a trace function sees each of its lines and can end it, which no thread can be told to.
    sys.settrace(watch)
    try:
        return str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))
    finally:
        sys.settrace(before)
