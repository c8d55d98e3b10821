"""Chat completions in the OpenAI format: requests, replies and chunks of streams."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.domain.errors import UnavailableError, UpstreamError
from windlass.sdk._protocol import JSON_CONTENT, Request, Response
from windlass.sdk._streams import ServerSentEvent
from windlass.sdk.arguments import as_list

Messages = Sequence[Mapping[str, Any]]
"""Messages of a chat, such as ``[{"role": "user", "content": "Hello"}]``."""

_GENERATION_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A chat completion; ``raw`` is the whole completion in the OpenAI format."""

    text: str
    finish_reason: str | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A chunk of a streamed chat completion."""

    text: str
    finish_reason: str | None


def chat_request(url: str, model: str, messages: Messages, parameters: Mapping[str, object]) -> Request:
    """Return the request of a completion; parameters that are None are left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    body = {"model": model, "messages": [dict(message) for message in as_list("messages", messages)], **given}
    return Request("POST", url, headers=JSON_CONTENT, body=json.dumps(body).encode(), timeout=_GENERATION_TIMEOUT)


def decode_reply(response: Response) -> ChatReply:
    """Return the reply of a response.

    Raises:
        UnavailableError: it is not a chat completion.
    """
    try:
        raw = json.loads(response.content)
        choice = raw["choices"][0]
        return ChatReply(choice["message"]["content"] or "", choice["finish_reason"], raw)
    except (ValueError, LookupError, TypeError) as error:
        raise UnavailableError(
            "the response is not a chat completion", hint="check the URL and the server's version"
        ) from error


def decode_delta(event: ServerSentEvent) -> ChatDelta | None:
    """Return the chunk of an event; None if it has no choice.

    Raises:
        UpstreamError: the model failed.
        UnavailableError: the event is invalid.
    """
    try:
        chunk = json.loads(event.data)
        if "error" in chunk:
            raise UpstreamError(str(chunk["error"].get("message", "the model failed during the completion")))
        if not chunk["choices"]:
            return None
        choice = chunk["choices"][0]
        return ChatDelta(choice["delta"].get("content") or "", choice.get("finish_reason"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnavailableError("invalid chunk in the chat completion", hint="check the server's version") from error


def is_done(event: ServerSentEvent) -> bool:
    """Return whether a stream is over."""
    return event.data == "[DONE]"
