"""The format of encrypted objects: every change, cut and exchange is noticed, and lengths are exact."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.domain.errors import ChecksumMismatchError
from windlass.storage.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    ChunkOpener,
    SealedSource,
    object_secret,
    open_sealed,
    plain_length,
    sealed_length,
    sealed_range,
)

SECRET = object_secret(b"k" * 32, "projects/p/file")
LENGTHS = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7)


def content(length: int) -> bytes:
    return bytes(number % 251 for number in range(length))


def sealed(data: bytes, secret: bytes = SECRET) -> bytes:
    return SealedSource(io.BytesIO(data), secret).read(sealed_length(len(data)) + 1)


def opened(stored: bytes, secret: bytes = SECRET) -> bytes:
    target = io.BytesIO()
    open_sealed(io.BytesIO(stored), "projects/p/file", secret, len(stored), target)
    return target.getvalue()


@pytest.mark.parametrize("length", LENGTHS)
def test_the_content_is_opened_as_it_was_and_has_the_computed_length(length: int) -> None:
    data = content(length)
    source = SealedSource(io.BytesIO(data), SECRET)
    stored = b"".join(iter(lambda: source.read(1000), b""))
    assert (len(stored), plain_length(len(stored))) == (sealed_length(length), length)
    assert opened(stored) == data
    assert data[:64] not in stored or length < 16


@given(length=st.integers(0, 1 << 45))
def test_a_length_has_one_stored_length(length: int) -> None:
    assert plain_length(sealed_length(length)) == length


@pytest.mark.parametrize("stored", [0, 1, HEADER_BYTES, HEADER_BYTES + 15, sealed_length(CHUNK_BYTES) + 3])
def test_a_length_that_no_object_can_have_is_refused(stored: int) -> None:
    with pytest.raises(ChecksumMismatchError):
        plain_length(stored)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    stored = bytearray(sealed(content(2 * CHUNK_BYTES + 9)))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ChecksumMismatchError):
        opened(bytes(stored))


@pytest.mark.parametrize("kept", [HEADER_BYTES, HEADER_BYTES + 1, sealed_length(CHUNK_BYTES), sealed_length(9)])
def test_a_cut_object_is_noticed(kept: int) -> None:
    with pytest.raises(ChecksumMismatchError):
        opened(sealed(content(2 * CHUNK_BYTES + 9))[:kept])


def test_exchanged_and_repeated_chunks_are_noticed() -> None:
    stored = sealed(content(3 * CHUNK_BYTES))
    size = CHUNK_BYTES + 16
    header, chunks = stored[:HEADER_BYTES], [stored[HEADER_BYTES + n * size :][:size] for n in range(3)]
    for order in ((1, 0, 2), (0, 0, 2), (0, 2, 1), (0, 1, 1)):
        with pytest.raises(ChecksumMismatchError):
            opened(header + b"".join(chunks[number] for number in order))


def test_another_key_or_another_place_opens_nothing() -> None:
    stored = sealed(b"a row")
    for secret in (object_secret(b"k" * 32, "projects/p/other"), object_secret(b"x" * 32, "projects/p/file")):
        with pytest.raises(ChecksumMismatchError):
            opened(stored, secret)


def test_an_object_in_clear_is_refused() -> None:
    with pytest.raises(ChecksumMismatchError, match="not encrypted"):
        opened(b"text,label\n" * 100)


@given(length=st.integers(1, 5 * CHUNK_BYTES), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_range_is_opened_alone(length: int, data: st.DataObject) -> None:
    plain, stored = content(length), sealed(content(length))
    begin = data.draw(st.integers(0, length - 1))
    end = data.draw(st.integers(begin + 1, length))
    first, last = sealed_range(begin, end, length)
    first_chunk = begin // CHUNK_BYTES
    found = ChunkOpener("file", SECRET, stored[:HEADER_BYTES], length).open(first_chunk, stored[first:last])
    start = begin - first_chunk * CHUNK_BYTES
    assert found[start : start + end - begin] == plain[begin:end]


def test_equal_contents_are_stored_differently() -> None:
    assert sealed(b"same") != sealed(b"same")
