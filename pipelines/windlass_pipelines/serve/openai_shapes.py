"""Chat completions as the stock ``openai`` client speaks them: request, reply, stream chunks, errors.

https://platform.openai.com/docs/api-reference/chat. What this server cannot do is refused by name, never ignored.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, Response

from windlass.domain.errors import InvalidError, WindlassError
from windlass.wire.problems import headers_of, status_of
from windlass_pipelines.serve.limits import (
    DEFAULT_NEW_TOKENS,
    MAX_CONTENT_CHARACTERS,
    MAX_MESSAGES,
    MAX_NEW_TOKENS,
)


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Shape):
    """One part of a message's content; text is the only kind."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_CONTENT_CHARACTERS)


class ChatMessage(_Shape):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_CONTENT_CHARACTERS)] | Annotated[list[TextPart], Field(max_length=64)]
    name: str | None = Field(default=None, max_length=64)

    def for_template(self) -> dict[str, str]:
        """Return the message as chat templates read it; ``developer`` is the newer name of ``system``."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Shape):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(_Shape):
    """The form of the answer; plain text is the only one."""

    type: Literal["text"]


Stop = Annotated[str, Field(min_length=1, max_length=256)]

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "reasoning_effort": (),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
"""Parameters of the API that are not served, with the values that ask for nothing."""

_NO_EFFECT = frozenset(
    {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", "verbosity"}
)
"""Parameters that cannot change an answer of this server."""


class ChatRequest(_Shape):
    """The body of ``POST /chat/completions``."""

    model: str = Field(default="", max_length=256)
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    n: Literal[1] = 1
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_NEW_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_NEW_TOKENS)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        for name, neutral in _NEUTRAL.items():
            given = value.get(name)
            if given is not None and given not in neutral:
                raise ValueError(f"{name} is not supported by this server")
        # The API's null means the default of an optional parameter.
        dropped = _NEUTRAL.keys() | _NO_EFFECT
        return {name: item for name, item in value.items() if item is not None and name not in dropped}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for stream=true only")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("give max_completion_tokens or max_tokens, not both")
        return self

    @property
    def wanted_tokens(self) -> int:
        """The length that the caller allows."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_NEW_TOKENS

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Answer:
    """The parts of one answer that repeat in every object of it."""

    def __init__(self, identifier: str, model: str) -> None:
        """Take the answer's id and the model's name."""
        self._base: dict[str, Any] = {"id": identifier, "created": int(time.time()), "model": model}

    def completion(self, text: str, finish: str, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the whole answer as one object."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return {**self._base, "object": "chat.completion", "choices": [choice], "usage": dict(usage)}

    def chunk(self, delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
        """Return one piece of a stream."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return {**self._base, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the last piece of a stream that was asked for its usage."""
        return {**self._base, "object": "chat.completion.chunk", "choices": [], "usage": dict(usage)}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Return token counts."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def error_body(error: WindlassError) -> dict[str, Any]:
    """Return the error object; ``param`` names the first wrong field."""
    pointer = error.fields[0].pointer.lstrip("/").replace("/", ".") if error.fields else ""
    kind = "invalid_request_error" if chat_status(error) < 429 else "server_error"  # noqa: PLR2004 - HTTP status
    return {"error": {"message": error.message, "type": kind, "param": pointer or None, "code": error.code}}


def chat_status(error: WindlassError) -> int:
    """Return the HTTP status: the API answers 400 where this project's own routes answer 422."""
    status = status_of(type(error))
    return 400 if isinstance(error, InvalidError) and status == 422 else status  # noqa: PLR2004 - HTTP status


def error_response(error: WindlassError) -> Response:
    """Render an error as the stock client expects it."""
    return JSONResponse(error_body(error), chat_status(error), headers_of(error))
