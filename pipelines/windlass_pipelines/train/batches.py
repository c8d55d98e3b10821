"""Assigns rows to optimizer steps as a pure function of seed and step, so a resumed training sees the same batches.

Rows of similar length share a batch, to reduce padding: an epoch is shuffled and split into pools of ``POOL`` batches,
each pool is sorted by length and split into batches, and the batches are shuffled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POOL = 16
RowIndices = NDArray[np.int64]


@dataclass(frozen=True)
class EncodedExample:
    """One tokenized row.

    ``ids`` has shape (tokens,). ``targets`` has the same shape, with ``-100`` at tokens without loss; for
    classification it is one label, shape (1,). ``positions`` restart at 0 with each document of a packed row; None in
    a row with one document.
    """

    ids: NDArray[np.int32]
    targets: NDArray[np.int64]
    positions: NDArray[np.int32] | None = None

    @property
    def weight(self) -> int:
        """Number of targets that count in the loss."""
        return int((self.targets >= 0).sum())


class BatchPlan:
    """The batches of a training set, identical on every rank."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """``batch`` is the number of rows per optimizer step over all ranks."""
        self._lengths = np.asarray(lengths)
        self._batch, self._seed = batch, seed
        self.steps_per_epoch = -(-len(lengths) // batch)
        # The cache of a bound method references the plan, which has the same lifetime as the cache.
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)

    def rows(self, step: int) -> RowIndices:
        """Return the row indices of optimizer step ``step``, counted from 1; an epoch's last batch may be smaller."""
        epoch, index = divmod(step - 1, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def _make_epoch(self, epoch: int) -> list[RowIndices]:
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._lengths))
        batches: list[RowIndices] = []
        for start in range(0, len(order), POOL * self._batch):
            pool = order[start : start + POOL * self._batch]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[i : i + self._batch] for i in range(0, len(pool), self._batch)]
        return [batches[i] for i in random.permutation(len(batches))]


def rank_micro_batches(rows: RowIndices, rank: int, world_size: int, parts: int) -> list[RowIndices]:
    """Return the ``parts`` micro-batches of one rank, from every ``world_size``-th row of the batch.

    A micro-batch may be empty. The caller must then compute any row with weight 0, because every rank must take part
    in every gradient all-reduce.
    """
    return list(np.array_split(rows[rank::world_size], parts))


def length_sorted_batches(lengths: Sequence[int], batch: int) -> list[RowIndices]:
    """Return all rows in batches of similar length, longest first, so that a lack of memory shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch] for i in range(0, len(order), batch)]
