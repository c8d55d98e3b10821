"""Incremental text: pieces add up to the whole, whatever the tokens; stop sequences cut in the same place always."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serve.tiny_artifacts import byte_tokenizer

from windlass_pipelines.serve.text_stream import Detokenizer, StopScanner

_tokenizer = cache(byte_tokenizer)


def decode(ids: object) -> str:
    return str(_tokenizer().decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def pieces_of(ids: list[int]) -> list[str]:
    stream = Detokenizer(decode)
    return [*map(stream.add, ids), stream.flush()]


@given(st.text(max_size=40))
def test_the_pieces_of_any_text_add_up_to_it_and_none_holds_half_a_character(text: str) -> None:
    ids = _tokenizer().encode(text, add_special_tokens=False)
    pieces = pieces_of(ids)
    assert "".join(pieces) == text
    assert text.count("\ufffd") == sum(piece.count("\ufffd") for piece in pieces)


@given(st.lists(st.integers(min_value=0, max_value=260), max_size=40))
def test_the_pieces_of_any_tokens_add_up_to_what_the_tokenizer_makes_of_all(ids: list[int]) -> None:
    assert "".join(pieces_of(ids)) == decode(ids)


def test_a_character_comes_out_whole_with_its_last_byte() -> None:
    ids = _tokenizer().encode("a😀b", add_special_tokens=False)
    assert pieces_of(ids) == ["a", "", "", "", "😀", "b", ""]


def test_an_unfinished_character_comes_out_at_the_end_as_a_replacement() -> None:
    ids = _tokenizer().encode("é", add_special_tokens=False)[:1]
    assert pieces_of(ids) == ["", "\ufffd"]


def scanned(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    scanner = StopScanner(stops)
    shown = [scanner.add(piece) for piece in pieces]
    return [*shown, scanner.flush()], scanner.stopped


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The definition: read on until some stop sequence is complete, then leave out the longest that is."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


abc = st.text(alphabet="abc", max_size=30)
some_stops = st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=4)


@given(st.lists(st.text(alphabet="abc", max_size=6), max_size=8), some_stops)
def test_text_is_cut_in_the_same_place_however_it_is_split(pieces: list[str], stops: list[str]) -> None:
    shown, stopped = scanned(pieces, stops)
    assert ("".join(shown), stopped) == cut("".join(pieces), stops)


@given(abc, some_stops)
def test_nothing_is_held_back_that_cannot_become_a_stop_sequence(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    shown = scanner.add(text)
    held = scanner.flush()
    assert scanner.stopped or shown + held == text
    assert held == "" or any(stop.startswith(held) for stop in stops)


def test_what_only_looked_like_a_stop_sequence_is_shown() -> None:
    shown, stopped = scanned(["E", "N", "A"], ["END"])
    assert shown == ["", "", "ENA", ""]
    assert not stopped


def test_nothing_is_shown_after_the_stop_sequence() -> None:
    assert scanned(["yes END no", "more"], ["END"]) == (["yes ", "", ""], True)


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopScanner([""])
