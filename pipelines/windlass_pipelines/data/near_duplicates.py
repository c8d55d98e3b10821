"""Near duplicates: MinHash signatures (Broder, 1997) in a locality-sensitive hash index, both by datasketch.

A text is represented by its 5-character shingles, in lower case with single spaces. Rows are near duplicates when
their labels are equal and the similarity estimated from 128 permutations (standard error at most 0.045) reaches the
threshold. A row is compared with earlier rows that are not near duplicates themselves.
"""

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from windlass_pipelines.rows import Row, texts

MAX_CLEANING_ROWS = 100_000
"""Maximum rows in the index of a cleaning step, at about 0.4 ms and 4 kB per row."""
MAX_REPORT_ROWS = 20_000
"""The same for a report, which is created for every version and must be fast."""
_PERMUTATIONS = 128
_SHINGLE = 5
_MAX_CHARACTERS = 20_000
_MAX_CANDIDATES = 64
_MISS_RATE = 0.02


class NearDuplicateIndex:
    """Index that finds an earlier near duplicate of a row."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._empty = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=_identity)
        self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=_bands(threshold))
        self._signatures: dict[int, NDArray[np.uint32]] = {}
        self._labels: dict[int, str | None] = {}

    def __len__(self) -> int:
        return len(self._signatures)

    def add(self, number: int, row: Row) -> int | None:
        """Return the number of an earlier near duplicate of ``row``; if there is none, add it as ``number``."""
        signature = self._empty.copy()
        signature.update_batch(_shingles("\n".join(texts(row))))
        label = row.get("label")
        for earlier in sorted(self._lsh.query(signature))[:_MAX_CANDIDATES]:
            equal = np.count_nonzero(self._signatures[earlier] == signature.hashvalues)
            if self._labels[earlier] == label and equal >= self._threshold * _PERMUTATIONS:
                return int(earlier)
        self._lsh.insert(number, signature)
        self._signatures[number] = signature.hashvalues
        self._labels[number] = label
        return None


def _bands(threshold: float) -> tuple[int, int]:
    """Return the number of bands and of rows per band; two texts are candidates when one whole band is equal.

    Longer bands give fewer false candidates. Returns the longest for which at most 2 % of pairs at the threshold are
    missed.
    """
    lengths = range(_PERMUTATIONS // 2, 0, -1)
    fitting = (rows for rows in lengths if (1 - threshold**rows) ** (_PERMUTATIONS // rows) <= _MISS_RATE)
    rows = next(fitting, 1)
    return _PERMUTATIONS // rows, rows


def _identity(value: int) -> int:
    return value


def _shingles(text: str) -> list[int]:
    """Return 32-bit hashes of the distinct shingles in the first 20,000 characters of a text."""
    plain = " ".join(text[:_MAX_CHARACTERS].lower().split())
    codes = np.frombuffer(plain.encode("utf-32-le"), np.uint32).astype(np.uint64)
    if len(codes) < _SHINGLE:
        codes = np.pad(codes, (0, _SHINGLE - len(codes)))
    rolling = np.zeros(len(codes) - _SHINGLE + 1, np.uint64)
    for offset in range(_SHINGLE):
        # a polynomial modulo 2^64 with an odd constant (2^64 divided by the golden ratio)
        rolling = rolling * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + len(rolling)]
    return [int(value) for value in np.unique(rolling >> np.uint64(32))]
