"""128-bit keys of rows in flat arrays: what is equal to what, at 16 bytes a row."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from windlass_pipelines.data.rows import Row, texts

_BYTES = 16

Keys = NDArray[np.uint64]
"""Shape (rows, 2)."""
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]


def row_key(row: Row) -> bytes:
    """Return the key of a row's whole content: text and label, or roles and messages; the group is no content."""
    if "messages" in row:
        return text_key("\0".join(f"{turn['role']}\0{turn['content']}" for turn in row["messages"]))
    return text_key(f"{row['text']}\0\0" if row["label"] is None else f"{row['text']}\0{row['label']}")


def input_key(row: Row) -> bytes:
    """Return the key of what must not stand in two splits: the text whatever its label, or the conversation."""
    return row_key(row) if "messages" in row else text_key(texts(row)[0])


def text_key(text: str) -> bytes:
    """Return the key of a text."""
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).digest()


def gather(keys: Iterable[bytes]) -> Keys:
    """Collect keys into an array."""
    collected = bytearray()
    for key in keys:
        collected += key
    return from_bytes(collected)


def from_bytes(collected: bytes | bytearray) -> Keys:
    """View joined keys as an array."""
    return np.frombuffer(collected, dtype=np.uint64).reshape(-1, 2)


def ranks(keys: Keys) -> tuple[Numbers, int]:
    """Return for each key the number of its value, counted by first occurrence, and how many values there are."""
    if not len(keys):
        return np.zeros(0, np.int64), 0
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    value = np.cumsum(new) - 1
    first = order[new]  # lexsort is stable: the first of equal keys comes first
    renumber = np.empty(len(first), np.int64)
    renumber[np.argsort(first, kind="stable")] = np.arange(len(first))
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = renumber[value]
    return numbers, len(first)


def first_of_equal(keys: Keys) -> Flags:
    """Return which rows are the first with their key."""
    numbers, _ = ranks(keys)
    # Values are numbered as they appear, so a row is a first one exactly when its number is a new maximum.
    highest = np.maximum.accumulate(numbers)
    return np.concatenate([np.ones(min(len(keys), 1), np.bool_), highest[1:] > highest[:-1]])


def found_in(keys: Keys, others: Keys) -> Flags:
    """Return which keys stand among ``others`` too."""
    numbers, count = ranks(np.concatenate([others, keys]))
    present = np.zeros(count, np.bool_)
    present[numbers[: len(others)]] = True
    return present[numbers[len(others) :]]
