"""The OpenAI chat schema: accepted and rejected requests, responses, and stream events."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from windlass.domain.errors import BusyError, ContextLengthError, InvalidError, UpstreamError
from windlass.wire.validation import field_problems, json_pointer
from windlass_pipelines.serve.chat import SSE_DONE, sse
from windlass_pipelines.serve.limits import MAX_MESSAGES, MAX_NEW_TOKENS
from windlass_pipelines.serve.openai_schema import ChatRequest, CompletionBuilder, error_response, usage

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
        ({"max_tokens": 5, "max_completion_tokens": 5}, "cannot be combined"),
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
def test_an_unsupported_parameter_is_rejected_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"tools": [{"type": "function"}]}, "/tools", "is not supported by this server"),
        ({"stream_options": {}}, "/stream_options", "is for stream=true only"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "/max_completion_tokens", "cannot be combined with max_tokens"),
        ({"stop": ["a"] * 5}, "/stop", "must have at most 4 items"),
        ({"stop": ""}, "/stop", "must not be empty"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content", "must be a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]},
            "/messages/0/content/0/type",
            "must be 'text'",
        ),
    ],
)
def test_an_error_names_the_parameter_in_plain_words(changes: dict[str, Any], param: str, message: str) -> None:
    body = {"messages": [HELLO], **changes}
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    problems = field_problems(caught.value.errors(), lambda location: json_pointer(location, body))
    assert [(item.pointer, item.problem) for item in problems] == [(param, message)]


def test_neutral_parameters_are_accepted() -> None:
    body = request(
        tools=[], logprobs=False, logit_bias={}, presence_penalty=0, user="u", metadata={"a": "b"}, stop=None, n=None
    )
    assert body.stops == ()
    assert body.n == 1


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]
    body = request(messages=[{"role": "developer", "content": parts}, HELLO])
    assert body.messages[0].for_template() == {"role": "system", "content": "be brief"}


def test_max_completion_tokens_equals_max_tokens() -> None:
    assert request(max_tokens=7).max_new_tokens == request(max_completion_tokens=7).max_new_tokens == 7


def test_responses_validate_with_the_openai_client_types() -> None:
    answer = CompletionBuilder("chatcmpl-1", "support")
    whole = ChatCompletion.model_validate(answer.completion("hi", "stop", usage(3, 2)), strict=True)
    chunk = ChatCompletionChunk.model_validate(answer.chunk({"content": "h"}), strict=True)
    last = ChatCompletionChunk.model_validate(answer.usage_chunk(usage(3, 2)), strict=True)
    assert whole.choices[0].message.content == "hi"
    assert chunk.choices[0].delta.content == "h"
    assert last.usage is not None
    assert last.usage.total_tokens == 5


def test_an_event_is_one_line_of_json() -> None:
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
def test_errors_have_the_schema_and_status_of_the_openai_api(
    error: Any, status: int, kind: str, param: str | None
) -> None:
    response = error_response(error)
    body = json.loads(bytes(response.body))["error"]
    assert response.status_code == status
    assert body == {"message": error.message, "type": kind, "param": param, "code": error.code}
    assert ("retry-after" in response.headers) is error.retryable
