"""Schema of the OpenAI chat completions API: request, response, stream chunks, errors.

https://platform.openai.com/docs/api-reference/chat. Unsupported parameters are rejected by name.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from starlette.responses import JSONResponse, Response

from windlass.domain.errors import InvalidError, WindlassError
from windlass.wire.openai_errors import openai_error
from windlass.wire.problems import headers_of, status_of
from windlass_pipelines.serve.limits import (
    DEFAULT_NEW_TOKENS,
    MAX_CONTENT_CHARACTERS,
    MAX_MESSAGES,
    MAX_NEW_TOKENS,
)


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# An error is that of the alternative that was meant.
_STRING_OR_LIST = Discriminator(lambda value: "list" if isinstance(value, list) else "string")


class TextPart(_Shape):
    """A part of a message's content; only text is supported."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_CONTENT_CHARACTERS)


class ChatMessage(_Shape):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Field(max_length=MAX_CONTENT_CHARACTERS), Tag("string")]
        | Annotated[list[TextPart], Field(max_length=64), Tag("list")],
        _STRING_OR_LIST,
    ]
    name: str | None = Field(default=None, max_length=64)

    def for_template(self) -> dict[str, str]:
        """Return the message for a chat template; ``developer`` is the newer name of ``system``."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Shape):
    """Options of a streamed response."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(_Shape):
    """The format of the answer; only plain text is supported."""

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
"""Unsupported parameters of the API, with their accepted neutral values."""

_NO_EFFECT = frozenset(
    {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", "verbosity"}
)
"""Parameters that have no effect on this server."""


class _NeutralParameters(_Shape):
    """The unsupported parameters; each field accepts its neutral values only, so that an error names it."""

    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    reasoning_effort: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None

    @field_validator(*_NEUTRAL)
    @classmethod
    def _neutral(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and value not in _NEUTRAL[info.field_name or ""]:
            raise ValueError("is not supported by this server")
        return value


class ChatRequest(_NeutralParameters):
    """The body of ``POST /chat/completions``."""

    model: str = Field(default="", max_length=256)
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    n: Literal[1] = 1
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_NEW_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_NEW_TOKENS)
    stop: (
        Annotated[
            Annotated[Stop, Tag("string")] | Annotated[list[Stop], Field(max_length=4), Tag("list")], _STRING_OR_LIST
        ]
        | None
    ) = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_ignored_parameters(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        # The API's null means the default of an optional parameter.
        return {name: item for name, item in value.items() if item is not None and name not in _NO_EFFECT}

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_tokens") is not None:
            raise ValueError("cannot be combined with max_tokens")
        return value

    @field_validator("stream_options")
    @classmethod
    def _only_for_streams(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("is for stream=true only")
        return value

    @property
    def max_new_tokens(self) -> int:
        """The requested maximum number of new tokens, or the default."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_NEW_TOKENS

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop sequences as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBuilder:
    """Builds the response objects of one completion, which share id, time and model."""

    def __init__(self, identifier: str, model: str) -> None:
        """``identifier`` is the completion's id, ``model`` the model's name."""
        self._base: dict[str, Any] = {"id": identifier, "created": int(time.time()), "model": model}

    def completion(self, text: str, finish: str, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the complete response."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return {**self._base, "object": "chat.completion", "choices": [choice], "usage": dict(usage)}

    def chunk(self, delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
        """Return a chunk of a stream."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, "logprobs": None}
        return {**self._base, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """Return the last chunk of a stream with ``include_usage``."""
        return {**self._base, "object": "chat.completion.chunk", "choices": [], "usage": dict(usage)}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Return the token counts of a completion."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def error_body(error: WindlassError) -> dict[str, Any]:
    """Return the body of an error response."""
    return {"error": openai_error(error)}


def chat_status(error: WindlassError) -> int:
    """Return the HTTP status; the OpenAI API uses 400 where Windlass's routes use 422."""
    status = status_of(type(error))
    return 400 if isinstance(error, InvalidError) and status == 422 else status  # noqa: PLR2004 - HTTP status


def error_response(error: WindlassError) -> Response:
    """Return the error response of the OpenAI API."""
    return JSONResponse(error_body(error), chat_status(error), headers_of(error))
