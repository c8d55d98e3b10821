"""The chat API's request and reply: what is taken, what is refused and by which name, and how a stream is framed."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from windlass.domain.errors import BusyError, ContextLengthError, InvalidError, UpstreamError
from windlass_pipelines.serve.chat import SSE_DONE, sse
from windlass_pipelines.serve.limits import MAX_MESSAGES, MAX_NEW_TOKENS
from windlass_pipelines.serve.openai_shapes import Answer, ChatRequest, error_response, usage

HELLO = {"role": "user", "content": "hello"}


def request(**changes: Any) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({"messages": [HELLO], **changes}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [HELLO] * (MAX_MESSAGES + 1)}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "type",
        ),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": MAX_NEW_TOKENS + 1}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "not both"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)
def test_what_cannot_be_served_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    assert named in str(caught.value)


def test_parameters_that_ask_for_nothing_are_taken() -> None:
    body = request(
        tools=[], logprobs=False, logit_bias={}, presence_penalty=0, user="u", metadata={"a": "b"}, stop=None, n=None
    )
    assert body.stops == ()
    assert body.n == 1


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]
    body = request(messages=[{"role": "developer", "content": parts}, HELLO])
    assert body.messages[0].for_template() == {"role": "system", "content": "be brief"}


def test_the_newer_name_of_the_length_works_like_the_older() -> None:
    assert request(max_tokens=7).wanted_tokens == request(max_completion_tokens=7).wanted_tokens == 7


def test_replies_are_what_the_stock_client_parses() -> None:
    answer = Answer("chatcmpl-1", "support")
    whole = ChatCompletion.model_validate(answer.completion("hi", "stop", usage(3, 2)), strict=True)
    chunk = ChatCompletionChunk.model_validate(answer.chunk({"content": "h"}), strict=True)
    last = ChatCompletionChunk.model_validate(answer.usage_chunk(usage(3, 2)), strict=True)
    assert whole.choices[0].message.content == "hi"
    assert chunk.choices[0].delta.content == "h"
    assert last.usage is not None
    assert last.usage.total_tokens == 5


def test_an_event_is_one_line_of_json_whatever_the_text_holds() -> None:
    event = sse({"content": "a\nb\r\n\u2028ü"})
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"\n" not in event[:-2]
    assert b"\r" not in event
    assert json.loads(event[6:]) == {"content": "a\nb\r\n\u2028ü"}
    assert SSE_DONE == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("error", "status", "kind", "param"),
    [
        (InvalidError.field("/messages/0/role", "unknown"), 400, "invalid_request_error", "messages.0.role"),
        (ContextLengthError.field("/messages", "too long"), 400, "invalid_request_error", "messages"),
        (BusyError("full"), 429, "server_error", None),
        (UpstreamError("broken"), 502, "server_error", None),
    ],
)
def test_errors_have_the_shape_and_status_of_the_api(error: Any, status: int, kind: str, param: str | None) -> None:
    response = error_response(error)
    body = json.loads(bytes(response.body))["error"]
    assert response.status_code == status
    assert body == {"message": error.message, "type": kind, "param": param, "code": error.code}
    assert ("retry-after" in response.headers) is error.retryable
