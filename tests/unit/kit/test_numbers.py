"""Sizes as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.kit.numbers import parse_size, size


@pytest.mark.parametrize(
    ("text", "amount"), [("24GiB", 24 << 30), ("1.5 gib", 3 << 29), ("512Mi", 512 << 20), ("7", 7), ("7 B", 7)]
)
def test_a_size_is_parsed(text: str, amount: int) -> None:
    assert parse_size(text) == amount


@pytest.mark.parametrize("text", ["", "24GB", "GiB", "-1GiB", "1e9", "24 G iB", "1,000"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 50))
def test_the_text_of_a_size_can_be_parsed(amount: int) -> None:
    assert parse_size(size(amount)) == pytest.approx(amount, rel=0.06)
