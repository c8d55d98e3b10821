"""No input makes a parser raise anything but its documented errors.

CI tries the corpus and a fixed sample of changed and random inputs; ``make fuzz`` tries random ones. An input that
breaks a parser becomes a file of ``corpus/`` together with the fix.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.budget import examples
from tests.fuzz.parsers import CORPUS, PARSERS, Parser

MAX_ENTRY_BYTES = 8192


def mutated(parser: Parser) -> st.SearchStrategy[bytes]:
    """Inputs of the corpus with some changes."""
    corpus = parser.corpus
    inserted = st.sampled_from(parser.fragments) | st.binary(max_size=4)
    edit = st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 2, 8, 64]), inserted)

    def build(content: bytes, edits: list[tuple[float, int, bytes]], repeat: int) -> bytes:
        for where, deleted, text in edits:
            position = int(where * len(content))
            content = content[:position] + text * repeat + content[position + deleted :]
        return content

    edits = st.lists(edit, min_size=1, max_size=4)
    return st.builds(build, st.sampled_from(corpus), edits, st.sampled_from([1, 1, 1, 2, 300]))


def from_fragments(parser: Parser) -> st.SearchStrategy[bytes]:
    parts = st.sampled_from(parser.fragments) | st.binary(max_size=3)
    return st.lists(parts, max_size=20).map(b"".join)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_parser_raises_only_its_documented_errors(parser: Parser) -> None:
    for content in parser.corpus:
        parser.parse(content)

    @examples(parser.examples)
    @given(mutated(parser) | from_fragments(parser))
    def check(content: bytes) -> None:
        parser.parse(content)

    check()


def test_every_parser_has_a_corpus_of_small_files() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {parser.name for parser in PARSERS}
    for path in CORPUS.rglob("*"):
        assert path.is_dir() or 0 < path.stat().st_size <= MAX_ENTRY_BYTES
