"""Files of every length are sent in parts that S3 accepts."""

from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from windlass.domain.errors import TooLargeError
from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_signer import S3UrlSigner

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
LARGEST = 5 * TIB


def signer(part_bytes: int) -> S3UrlSigner:
    """Part lengths need no connection."""
    return S3UrlSigner(cast("S3ObjectStore", None), None, 3600, S3Settings(part_bytes=part_bytes).part_bytes)


@given(size=st.integers(0, LARGEST), part_bytes=st.integers(5 * MIB, 5 * GIB))
@example(size=5 * GIB + 1, part_bytes=64 * MIB)
@example(size=60 * GIB, part_bytes=64 * MIB)
@example(size=10_000 * 64 * MIB + 1, part_bytes=64 * MIB)
@example(size=LARGEST, part_bytes=5 * MIB)
@example(size=LARGEST, part_bytes=5 * GIB)
def test_a_file_has_at_most_ten_thousand_parts_of_five_mib_to_five_gib(size: int, part_bytes: int) -> None:
    length = signer(part_bytes).part_length(size)
    parts = -(-size // length)
    assert 5 * MIB <= length <= 5 * GIB
    assert parts <= 10_000
    assert (parts - 1) * length < size <= parts * length or size == parts == 0


def test_parts_are_longer_than_configured_only_if_they_are_too_many() -> None:
    assert signer(64 * MIB).part_length(60 * GIB) == 64 * MIB, "960 parts"
    assert signer(64 * MIB).part_length(LARGEST) == 549_755_814


def test_a_file_that_no_object_can_hold_is_refused() -> None:
    with pytest.raises(TooLargeError, match=r"at most 5\.0 TiB"):
        signer(64 * MIB).part_length(LARGEST + 1)
