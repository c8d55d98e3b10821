"""Incremental detokenization and stop sequences do not depend on how text or tokens are split."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serve.tiny_artifacts import byte_tokenizer

from windlass_pipelines.serve.text_stream import Detokenizer, StopScanner

_tokenizer = cache(byte_tokenizer)


def decode(ids: object) -> str:
    return str(_tokenizer().decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def detokenize(ids: list[int]) -> list[str]:
    stream = Detokenizer(decode)
    return [*map(stream.add, ids), stream.flush()]


@given(st.text(max_size=40))
def test_chunks_of_any_text_concatenate_to_it_without_partial_characters(text: str) -> None:
    ids = _tokenizer().encode(text, add_special_tokens=False)
    chunks = detokenize(ids)
    assert "".join(chunks) == text
    assert text.count("\ufffd") == sum(chunk.count("\ufffd") for chunk in chunks)


@given(st.lists(st.integers(min_value=0, max_value=260), max_size=40))
def test_chunks_of_any_tokens_concatenate_to_the_decoded_text(ids: list[int]) -> None:
    assert "".join(detokenize(ids)) == decode(ids)


def test_a_character_is_returned_with_its_last_byte() -> None:
    ids = _tokenizer().encode("a😀b", add_special_tokens=False)
    assert detokenize(ids) == ["a", "", "", "", "😀", "b", ""]


def test_flush_returns_an_incomplete_character_as_a_replacement() -> None:
    ids = _tokenizer().encode("é", add_special_tokens=False)[:1]
    assert detokenize(ids) == ["", "\ufffd"]


def scan(chunks: list[str], stops: list[str]) -> tuple[list[str], bool]:
    scanner = StopScanner(stops)
    returned = [scanner.add(chunk) for chunk in chunks]
    return [*returned, scanner.flush()], scanner.stopped


def reference_scan(text: str, stops: list[str]) -> tuple[str, bool]:
    """A reference implementation: read until a stop sequence is complete, then drop the longest complete one."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


abc = st.text(alphabet="abc", max_size=30)
some_stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4)


@given(st.lists(st.text(alphabet="abc", max_size=6), max_size=8), some_stops)
def test_the_cut_does_not_depend_on_how_the_text_is_split(chunks: list[str], stops: list[str]) -> None:
    returned, stopped = scan(chunks, stops)
    assert ("".join(returned), stopped) == reference_scan("".join(chunks), stops)


@given(abc, some_stops)
def test_only_possible_stop_sequences_are_buffered(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    returned = scanner.add(text)
    buffered = scanner.flush()
    assert scanner.stopped or returned + buffered == text
    assert buffered == "" or any(stop.startswith(buffered) for stop in stops)


def test_an_incomplete_stop_sequence_is_returned() -> None:
    returned, stopped = scan(["E", "N", "A"], ["END"])
    assert returned == ["", "", "ENA", ""]
    assert not stopped


def test_nothing_is_returned_after_a_stop_sequence() -> None:
    assert scan(["yes END no", "more"], ["END"]) == (["yes ", "", ""], True)


def test_an_empty_stop_sequence_is_rejected() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopScanner([""])
