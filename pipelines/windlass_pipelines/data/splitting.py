"""Assigns rows to splits: sizes by largest remainder, whole groups together, label proportions kept; seeded.

Rows without groups are dealt exactly. Groups are dealt greedily, the largest first, each to the split that it
leaves least full for its size; when stratified, fullness is counted per label. Both need no search and come
close to the wished shares unless a few groups hold most rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from windlass.domain.datasets import Split, SplitRows
from windlass_pipelines.data.keys import Keys, Numbers, ranks

Shares = NDArray[np.float64]
"""Shape (splits,)."""


class TooFewError(Exception):
    """There are fewer rows, or groups, than splits that want one."""

    def __init__(self, units: int, wanted: int) -> None:
        super().__init__(units, wanted)
        self.units, self.wanted = units, wanted


def assign_splits(step: SplitRows, labels: Numbers, groups: Keys | None) -> Numbers:
    """Return for each row the index of its split in ``Split``.

    ``labels`` are small numbers, shape (rows,): equal for equal labels. ``groups`` are keys of the rows' groups,
    shape (rows, 2), or None to deal single rows.

    Raises:
        TooFewError: a split that wants a share would get nothing.
    """
    shares = np.array([step.train, step.validation, step.test])
    used = np.flatnonzero(shares > 0)
    strata = labels if step.stratify else np.zeros_like(labels)
    random = np.random.Generator(np.random.PCG64(step.seed))
    if groups is None:
        if len(labels) < len(used):
            raise TooFewError(len(labels), len(used))
        assigned = _deal_rows(shares[used], strata, random)
    else:
        units, count = ranks(groups)
        if count < len(used):
            raise TooFewError(count, len(used))
        assigned = _deal_groups(shares[used], strata, units, count, random)[units]
    dealt: Numbers = used[assigned]
    return dealt


def _deal_rows(shares: Shares, strata: Numbers, random: np.random.Generator) -> Numbers:
    assigned = np.empty(len(strata), np.int64)
    owed = np.zeros(len(shares))  # what rounding of earlier strata left over
    for stratum in np.unique(strata):
        members = random.permutation(np.flatnonzero(strata == stratum))
        wished = shares * len(members) + owed
        sizes = _round_to(wished, len(members))
        owed = wished - sizes
        assigned[members] = np.repeat(np.arange(len(shares)), sizes)
    return _fill_empty(assigned, np.ones(len(strata), np.int64), len(shares))


def _round_to(wished: Shares, total: int) -> Numbers:
    """Round to whole numbers >= 0 that add up to ``total``."""
    sizes = np.maximum(np.floor(wished), 0).astype(np.int64)
    while sizes.sum() != total:
        behind = wished - sizes
        if sizes.sum() < total:
            sizes[np.argmax(behind)] += 1
        else:
            sizes[np.argmin(np.where(sizes > 0, behind, np.inf))] -= 1
    return sizes


def _deal_groups(shares: Shares, strata: Numbers, units: Numbers, count: int, random: np.random.Generator) -> Numbers:
    _, strata = np.unique(strata, return_inverse=True)
    kinds = int(strata.max()) + 1
    sizes = np.bincount(units, minlength=count)
    # (unit, stratum) pairs with their counts, sorted by unit: the composition of each group without a dense table
    pairs, amounts = np.unique(units * kinds + strata, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(count + 1) * kinds)
    targets = shares[:, None] * np.bincount(strata, minlength=kinds)[None, :]
    filled = np.zeros_like(targets)
    assigned = np.empty(count, np.int64)
    order = random.permutation(count)
    for unit in order[np.argsort(-sizes[order], kind="stable")]:
        own = slice(starts[unit], starts[unit + 1])
        kind, amount = pairs[own] - unit * kinds, amounts[own]
        fullness = ((filled[:, kind] + amount) / targets[:, kind]) @ amount
        chosen = int(np.argmin(fullness))
        assigned[unit] = chosen
        filled[chosen, kind] += amount
    return _fill_empty(assigned, sizes, len(shares))


def _fill_empty(assigned: Numbers, sizes: Numbers, splits: int) -> Numbers:
    """Give each split that got nothing the smallest unit of the split with the most units."""
    for split in range(splits):
        counts = np.bincount(assigned, minlength=splits)
        if not counts[split]:
            candidates = np.flatnonzero(assigned == np.argmax(counts))
            assigned[candidates[np.argmin(sizes[candidates])]] = split
    return assigned


SPLITS: Sequence[Split] = tuple(Split)
"""The splits in the order of the indices that ``assign_splits`` returns."""
