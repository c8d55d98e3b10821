"""Which rows make up which optimiser step: a pure function of seed and step, so that resuming continues exactly.

Rows of like length share a batch, to pad little: an epoch is shuffled, cut into pools of ``POOL`` batches, each pool
sorted by length and cut into batches, and the batches shuffled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POOL = 16
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """One encoded row: token ids and what each must predict, ``-100`` where nothing (classification: one label).

    ``positions`` restart at 0 with each document of a packed row; None in a row that is one document.
    """

    ids: NDArray[np.int32]
    targets: NDArray[np.int64]
    positions: NDArray[np.int32] | None = None

    @property
    def weight(self) -> int:
        """How many targets count in the loss."""
        return int((self.targets >= 0).sum())


class BatchPlan:
    """The batches of a training set, for every rank alike."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        """``batch`` is rows per optimiser step over all ranks."""
        self._lengths = np.asarray(lengths)
        self._batch, self._seed = batch, seed
        self.steps_per_epoch = -(-len(lengths) // batch)
        # one epoch is looked at a time; the bound method's cache would keep the plan alive, which lives as long anyway
        self._epoch = lru_cache(maxsize=1)(self._make_epoch)

    def rows(self, step: int) -> Rows:
        """Return the row numbers of optimiser step ``step``, counted from 1; the last of an epoch may have fewer."""
        epoch, index = divmod(step - 1, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def _make_epoch(self, epoch: int) -> list[Rows]:
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(len(self._lengths))
        batches: list[Rows] = []
        for start in range(0, len(order), POOL * self._batch):
            pool = order[start : start + POOL * self._batch]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += [pool[i : i + self._batch] for i in range(0, len(pool), self._batch)]
        return [batches[i] for i in random.permutation(len(batches))]


def share(rows: Rows, rank: int, size: int, parts: int) -> list[Rows]:
    """Return the micro-batches of one rank: every ``size``-th row, in ``parts`` runs, none of them empty lists.

    A part without a row repeats the first row of the batch: the caller must give it weight 0, as every rank has to
    take part in every gradient exchange.
    """
    return list(np.array_split(rows[rank::size], parts))


def by_length(lengths: Sequence[int], batch: int) -> list[Rows]:
    """Return all rows in batches of like length, longest first, so that memory runs out at once or never."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch] for i in range(0, len(order), batch)]
