"""Renders chat templates with a time limit and a size limit: a template is untrusted code of the model."""

import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from transformers import PreTrainedTokenizerBase

from windlass.domain.errors import ContextLengthError, InvalidError
from windlass_pipelines.prompts import PromptTokenizer

_SECONDS = 2.0
_CHARACTERS_PER_TOKEN = 64
"""Upper bound of characters per token; a longer text cannot fit the context."""


class _TemplateTimeoutError(BaseException):
    """Not an ``Exception``, so that error handling in a template does not catch it."""


def render(
    prompts: PromptTokenizer, messages: Sequence[dict[str, str]], limit: int, seconds: float = _SECONDS
) -> list[int]:
    """Return the prompt's token ids, including the generation prompt.

    transformers renders in Jinja's immutable sandbox; this adds a time limit. Special tokens typed in a message are
    ordinary text, as in training.

    Args:
        prompts: of a tokenizer with the chat template.
        messages: ``role`` and ``content`` of each turn.
        limit: the model's context length in tokens; the prompt must be shorter.
        seconds: time limit of the template.

    Raises:
        InvalidError: the template rejects the conversation, or exceeds the limit of time or memory.
        ContextLengthError: the prompt is too long.
    """
    try:
        text = prompts.render(messages, lambda escaped: _within(seconds, prompts.tokenizer, escaped))
    except _TemplateTimeoutError:
        raise InvalidError(f"the model's chat template did not finish within {seconds:g} s") from None
    except MemoryError:
        raise InvalidError("the model's chat template needs too much memory for these messages") from None
    # A template can raise anything, for example on an unsupported order of roles.
    except Exception as error:
        raise InvalidError(f"the model's chat template rejects these messages: {error}") from error
    too_long = len(text) > limit * _CHARACTERS_PER_TOKEN
    ids: list[int] = [] if too_long else prompts.tokenize(text).ids
    if too_long or len(ids) >= limit:
        count = f"{len(ids)} tokens" if ids else f"{len(text)} characters"
        raise ContextLengthError.field(
            "/messages",
            f"the prompt has {count}, the model's context is {limit} tokens including the answer",
            hint="shorten the messages",
        )
    return ids


def _within(seconds: float, tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]) -> str:
    deadline = time.monotonic() + seconds

    def watch(_frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise _TemplateTimeoutError
        return watch

    before = sys.gettrace()
    # Jinja compiles to Python, so a trace function runs at each line and can abort it; a thread cannot be aborted.
    sys.settrace(watch)
    try:
        return str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))
    finally:
        sys.settrace(before)
