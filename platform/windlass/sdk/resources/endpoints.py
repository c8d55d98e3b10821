"""Endpoints: serve, predict, chat."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from windlass.domain.endpoints import EndpointSpec, EndpointState
from windlass.domain.errors import UnavailableError, UpstreamError
from windlass.sdk._bind import (
    AsyncResource,
    Resource,
    async_call,
    async_listing,
    async_streaming,
    call,
    listing,
    streaming,
)
from windlass.sdk._core import (
    Flow,
    Listing,
    Reply,
    Request,
    Scope,
    built,
    delete,
    get,
    listed,
    patch,
    poll,
    post,
)
from windlass.sdk._core import call as ask
from windlass.sdk._streams import Sse, Subscription
from windlass.wire.models import EndpointIn, EndpointOut, EndpointPatch, PredictIn, PredictOut

Messages = Sequence[Mapping[str, str]]
_GENERATION_TIMEOUT = 300.0
_SETTLED = frozenset({EndpointState.READY, EndpointState.FAILED, EndpointState.STOPPED})


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An answer; ``raw`` is the whole completion in the OpenAI shape."""

    text: str
    finish_reason: str | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer as it is made."""

    text: str
    finish_reason: str | None


def create_endpoint(scope: Scope, name: str, spec: EndpointSpec | Mapping[str, Any]) -> Flow[EndpointOut]:
    """Begin to serve under a name."""
    return post(scope.path("endpoints"), EndpointOut, built(EndpointIn, name=name, spec=_plain(spec)))


def list_endpoints(scope: Scope) -> Listing[EndpointOut]:
    """Iterate over the project's endpoints."""
    return listed(scope.path("endpoints"), EndpointOut)


def get_endpoint(scope: Scope, name: str) -> Flow[EndpointOut]:
    """Read an endpoint."""
    return get(scope.path("endpoints", name), EndpointOut)


def update_endpoint(
    scope: Scope, name: str, spec: EndpointSpec | Mapping[str, Any], *, if_match: int | None = None
) -> Flow[EndpointOut]:
    """Wish another spec: the new versions are tried before the old ones go."""
    return patch(scope.path("endpoints", name), EndpointOut, built(EndpointPatch, spec=_plain(spec)), if_match)


def delete_endpoint(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Stop serving and forget the name."""
    return delete(scope.path("endpoints", name), if_match)


def wait_endpoint(scope: Scope, name: str, *, timeout: float | None = None) -> Flow[EndpointOut]:
    """Wait until the newest spec is served, has failed or is stopped; look at ``state`` and ``reason``.

    Raises:
        WaitTimeoutError: after ``timeout`` seconds; the rollout goes on.
    """
    return poll(
        lambda: get_endpoint(scope, name),
        lambda seen: seen.observed_generation >= seen.generation and seen.state in _SETTLED,
        timeout,
        f"endpoint {name}",
    )


def predict(scope: Scope, name: str, inputs: Sequence[str], *, top_k: int | None = None) -> Flow[PredictOut]:
    """Classify texts: for each, labels with probabilities, best first."""
    where = scope.path("endpoints", name) + ":predict"
    return post(where, PredictOut, built(PredictIn, inputs=list(inputs), top_k=top_k), keyed=False)


def chat(scope: Scope, /, name: str, messages: Messages, **parameters: object) -> Flow[ChatReply]:
    """Answer a conversation; ``parameters`` are OpenAI's (``max_tokens``, ``temperature``, ...)."""
    return ask(_chat_request(scope, name, messages, {**parameters, "stream": False}), _reply)


def chat_stream(scope: Scope, /, name: str, messages: Messages, **parameters: object) -> Subscription[ChatDelta]:
    """Answer a conversation piece by piece. A cut is an error: an answer cannot be gone on with."""
    return Subscription(
        request=_chat_request(scope, name, messages, {**parameters, "stream": True}),
        decode=_delta,
        ends=lambda event: event.data == "[DONE]",
        resumable=False,
        what="the answer",
    )


def _chat_request(scope: Scope, name: str, messages: Messages, parameters: Mapping[str, object]) -> Request:
    body = {"model": name, "messages": [dict(message) for message in messages], **parameters}
    return Request(
        "POST",
        scope.path("endpoints", name, "chat", "completions"),
        headers={"Content-Type": "application/json"},
        body=json.dumps(body).encode(),
        timeout=_GENERATION_TIMEOUT,
    )


def _reply(reply: Reply) -> ChatReply:
    try:
        raw = json.loads(reply.content)
        choice = raw["choices"][0]
        return ChatReply(choice["message"]["content"] or "", choice["finish_reason"], raw)
    except (ValueError, LookupError, TypeError) as error:
        raise UnavailableError(
            "the answer is no chat completion", hint="check the URL and the server's version"
        ) from error


def _delta(event: Sse) -> ChatDelta | None:
    try:
        chunk = json.loads(event.data)
        if "error" in chunk:
            raise UpstreamError(str(chunk["error"].get("message", "the model failed while answering")))
        if not chunk["choices"]:
            return None
        choice = chunk["choices"][0]
        return ChatDelta(choice["delta"].get("content") or "", choice.get("finish_reason"))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnavailableError("a piece of the answer cannot be read", hint="check the server's version") from error


def _plain(spec: EndpointSpec | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump() if isinstance(spec, BaseModel) else dict(spec)


class Endpoints(Resource):
    """Endpoints of the project."""

    create = call(create_endpoint)
    list = listing(list_endpoints)
    get = call(get_endpoint)
    update = call(update_endpoint)
    delete = call(delete_endpoint)
    wait = call(wait_endpoint)
    predict = call(predict)
    chat = call(chat)
    chat_stream = streaming(chat_stream)


class AsyncEndpoints(AsyncResource):
    """Endpoints of the project."""

    create = async_call(create_endpoint)
    list = async_listing(list_endpoints)
    get = async_call(get_endpoint)
    update = async_call(update_endpoint)
    delete = async_call(delete_endpoint)
    wait = async_call(wait_endpoint)
    predict = async_call(predict)
    chat = async_call(chat)
    chat_stream = async_streaming(chat_stream)
