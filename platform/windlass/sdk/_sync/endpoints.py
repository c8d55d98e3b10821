# Generated from _async/endpoints.py by docs/generate_sync_sdk.py; do not edit.
"""Endpoints: serving, prediction, chat."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from windlass.domain.endpoints import EndpointSpec, EndpointState
from windlass.sdk._protocol import validate_body
from windlass.sdk._streams import EventStream
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.arguments import as_list, to_dict
from windlass.sdk.chat import ChatDelta, ChatReply, Messages, chat_request, decode_delta, decode_reply, is_done
from windlass.sdk.predictions import Prediction, decode_predictions, request_batches
from windlass.wire.base import DeletionOut
from windlass.wire.models import EndpointIn, EndpointOut, EndpointPatch, EndpointTrafficOut, PredictIn, PredictOut

_FINAL_STATES = frozenset({EndpointState.READY, EndpointState.FAILED, EndpointState.STOPPED})
_Predictions = list[Prediction]  # in the class, `list` is a method


class Endpoints(Resource):
    """Endpoints of the project."""

    def create(self, name: str, spec: EndpointSpec | Mapping[str, Any]) -> EndpointOut:
        """Create an endpoint."""
        body = validate_body(EndpointIn, name=name, spec=to_dict(spec))
        return self._post(self._path("endpoints"), EndpointOut, body)

    def list(self) -> CursorPage[EndpointOut]:
        """List the project's endpoints, newest first."""
        return self._list(self._path("endpoints"), EndpointOut)

    def get(self, name: str) -> EndpointOut:
        """Get an endpoint."""
        return self._get(self._path("endpoints", name), EndpointOut)

    def update(self, name: str, spec: EndpointSpec | Mapping[str, Any], *, if_match: int | None = None) -> EndpointOut:
        """Change the spec: the new model versions are verified before traffic moves to them."""
        body = validate_body(EndpointPatch, spec=to_dict(spec))
        return self._patch(self._path("endpoints", name), EndpointOut, body, if_match)

    def delete(self, name: str, *, if_match: int | None = None, dry_run: bool = False) -> DeletionOut:
        """Delete an endpoint."""
        return self._delete(self._path("endpoints", name), if_match, dry_run=dry_run)

    def traffic(
        self, name: str, *, since: datetime | None = None, until: datetime | None = None, step: int | None = None
    ) -> EndpointTrafficOut:
        """Get the requests to an endpoint over time, by outcome, with the latencies; by default of the last day.

        ``since`` and ``until`` are aware times; ``step`` has the seconds of a point, a multiple of 60.
        """
        times = {"since": since, "until": until}
        query = {key: None if time is None else time.isoformat() for key, time in times.items()}
        return self._get(self._path("endpoints", name, "traffic"), EndpointTrafficOut, {**query, "step": step})

    def wait(self, name: str, *, timeout: float | None = None) -> EndpointOut:
        """Wait until the newest spec is ready, failed or stopped: see ``state`` and ``reason``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds; the rollout continues.
        """
        return self._poll(
            lambda: self.get(name),
            lambda endpoint: endpoint.observed_generation >= endpoint.generation and endpoint.state in _FINAL_STATES,
            timeout,
            f"endpoint {name}",
        )

    def predict(self, name: str, inputs: Sequence[str], *, top_k: int | None = None) -> _Predictions:
        """Classify any number of texts; returns one prediction per text, in order.

        The texts are sent in requests of at most 256. ``top_k`` limits the number of labels per text (default: all).

        Raises:
            InvalidError: ``inputs`` is a string, or a text is too long.
        """
        url = self._path("endpoints", name) + ":predict"
        predictions: _Predictions = []
        for batch in request_batches(as_list("inputs", inputs)):
            body = validate_body(PredictIn, inputs=batch, top_k=top_k)
            answer = self._post(url, PredictOut, body, read_only=True)
            predictions += decode_predictions(answer, len(batch))
        return predictions

    def chat(
        self,
        name: str,
        messages: Messages,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> ChatReply:
        """Complete a chat. ``None`` selects the server's default of a parameter."""
        sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "stop": stop, "seed": seed}
        request = chat_request(self._chat_url(name), name, messages, sampling)
        return decode_reply(self._transport.send(request))

    def chat_stream(
        self,
        name: str,
        messages: Messages,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        seed: int | None = None,
    ) -> Iterator[ChatDelta]:
        """Stream a chat completion. A disconnect is an error: a completion cannot be resumed."""
        sampling = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "stop": stop, "seed": seed}
        stream = EventStream(
            request=chat_request(self._chat_url(name), name, messages, {**sampling, "stream": True}),
            decode=decode_delta,
            is_end=is_done,
            resumable=False,
            description="the chat completion",
        )
        return self._transport.stream(stream)

    def _chat_url(self, name: str) -> str:
        return self._path("endpoints", name, "chat", "completions")
