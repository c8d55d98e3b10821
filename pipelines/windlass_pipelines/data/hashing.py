"""128-bit row hashes in flat arrays, to compare rows at 16 bytes per row."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from windlass_pipelines.rows import Row, is_target

_BYTES = 16

HashArray = NDArray[np.uint64]
"""Shape (rows, 2)."""
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


def row_hash(row: Row) -> bytes:
    """Return the hash of a row's content: text and label, or messages with roles and weights, but not the group."""
    if "messages" in row:
        weights = "".join("1" if is_target(message) else "0" for message in row["messages"])
        return text_hash(f"{_conversation(row)}\0\0{weights}")
    return text_hash(f"{row['text']}\0\0" if row["label"] is None else f"{row['text']}\0{row['label']}")


def input_hash(row: Row) -> bytes:
    """Return the hash of what must not be in two splits: the text without label, or the conversation."""
    return text_hash(_conversation(row) if "messages" in row else row["text"])


def _conversation(row: Row) -> str:
    return "\0".join(f"{message['role']}\0{message['content']}" for message in row["messages"])


def text_hash(text: str) -> bytes:
    """Return the hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).digest()


def hash_array(hashes: Iterable[bytes]) -> HashArray:
    """Collect hashes into an array."""
    collected = bytearray()
    for key in hashes:
        collected += key
    return from_bytes(collected)


def from_bytes(collected: bytes | bytearray) -> HashArray:
    """View concatenated hashes as an array."""
    return np.frombuffer(collected, dtype=np.uint64).reshape(-1, 2)


def factorize(hashes: HashArray) -> tuple[IntArray, int]:
    """Return a code for each hash, numbered by first occurrence, and the number of distinct hashes."""
    if not len(hashes):
        return np.zeros(0, np.int64), 0
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = np.ones(len(hashes), np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    value = np.cumsum(new) - 1
    first = order[new]  # lexsort is stable: the first of equal hashes comes first
    renumber = np.empty(len(first), np.int64)
    renumber[np.argsort(first, kind="stable")] = np.arange(len(first))
    codes = np.empty(len(hashes), np.int64)
    codes[order] = renumber[value]
    return codes, len(first)


def first_occurrences(hashes: HashArray) -> BoolArray:
    """Return which rows are the first with their hash."""
    codes, _ = factorize(hashes)
    # Codes are numbered by first occurrence, so a row is the first exactly when its code is a new maximum.
    running_max = np.maximum.accumulate(codes)
    return np.concatenate([np.ones(min(len(hashes), 1), np.bool_), running_max[1:] > running_max[:-1]])


def merge(one: IntArray, other: IntArray) -> IntArray:
    """Return codes of the sets of rows that are connected by equal codes of ``one`` or ``other``."""
    merged = one
    while len(merged):
        least = merged
        for codes in (other, one):
            lowest = np.full(int(codes.max()) + 1, len(merged))
            np.minimum.at(lowest, codes, least)
            least = lowest[codes]
        if (least == merged).all():
            break
        merged = least
    numbered: IntArray = np.unique(merged, return_inverse=True)[1]
    return numbered


def isin(hashes: HashArray, others: HashArray) -> BoolArray:
    """Return which hashes are in ``others``."""
    codes, count = factorize(np.concatenate([others, hashes]))
    present = np.zeros(count, np.bool_)
    present[codes[: len(others)]] = True
    return present[codes[len(others) :]]
