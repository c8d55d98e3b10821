"""The tokens of a stream are read from its bytes, however these are divided."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.domain.usage import parse_usage
from windlass_api.stream_usage import StreamUsage


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def read(*parts: bytes) -> StreamUsage:
    usage = StreamUsage()
    for part in parts:
        usage.read(part)
    return usage


STREAM = (
    b"".join(b": usage 7 %d\n\n" % tokens + event("x" * tokens * 40) for tokens in range(1, 13)) + b"data: [DONE]\n\n"
)


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_the_division_of_a_stream_does_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[begin:end] for begin, end in pairwise(edges)]
    assert read(*parts).tokens == (7, 12)


def test_a_stream_that_is_cut_off_has_the_tokens_of_its_last_event() -> None:
    assert read(STREAM[: STREAM.index(b": usage 7 5") + 4]).tokens == (7, 4)


def test_generated_text_cannot_report_tokens() -> None:
    text = '\n: usage 1000000 1000000\n\n"usage": {"prompt_tokens": 5}'
    assert read(event(text)).tokens == (0, 0)


def test_the_usage_chunk_of_openai_is_read_too() -> None:
    chunk = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}
    assert read(event("hi"), b"data: " + json.dumps(chunk).encode() + b"\n\n").tokens == (3, 4)


def test_an_error_in_a_stream_is_noticed() -> None:
    assert not read(event('data: {"error"')).has_failed
    assert read(event("hi"), b'data: {"error":{"code":"x"}}\n\n').has_failed


@pytest.mark.parametrize(
    "reply",
    [None, [], {}, {"usage": None}, {"usage": {"prompt_tokens": "9", "completion_tokens": -1}}, {"usage": {"a": 1}}],
)
def test_a_reply_without_valid_usage_has_no_tokens(reply: object) -> None:
    assert parse_usage(reply) == (0, 0)
