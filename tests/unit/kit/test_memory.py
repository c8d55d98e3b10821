"""Limits on the memory of a block."""

import resource

import pytest

from windlass.kit.memory import limited_growth

MIB = 1 << 20


def test_memory_within_the_limit_is_allocated_and_more_is_refused() -> None:
    with limited_growth(256 * MIB):
        assert len(bytearray(64 * MIB)) == 64 * MIB
        with pytest.raises(MemoryError):
            bytearray(1024 * MIB)
    assert len(bytearray(512 * MIB)) == 512 * MIB


def test_the_limit_before_is_restored_after_an_error() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ValueError, match="inside"), limited_growth(MIB * 256):
        raise ValueError("inside")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
