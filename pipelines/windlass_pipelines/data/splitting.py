"""Assigns rows to splits: whole units, sizes by largest remainder, optionally stratified by label; seeded.

A unit is a set of rows that must be in one split. Units of several rows are assigned greedily, the largest first, each
to the split that is least full relative to its target size afterwards; when stratified, fullness is measured per label.
Single rows then fill the splits to their exact sizes. The result is close to the requested fractions unless a few units
contain most rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windlass.domain.datasets import Split, SplitRows
from windlass_pipelines.data.hashing import IntArray

Fractions = NDArray[np.float64]
"""Shape (splits,)."""
Table = NDArray[np.float64]
"""Rows per split and stratum, shape (splits, strata)."""


class TooFewUnitsError(Exception):
    """There are fewer units than splits; or, when stratified, too few to have each label in train."""

    def __init__(self, units: int, required: int) -> None:
        super().__init__(units, required)
        self.units, self.required = units, required


@dataclass(frozen=True)
class _Rows:
    """The rows to assign. ``strata`` and ``units`` are numbered from 0, shape (rows,)."""

    strata: IntArray
    units: IntArray
    sizes: IntArray
    """Rows of each unit."""

    @property
    def kinds(self) -> int:
        """Number of strata."""
        return int(self.strata.max()) + 1

    def strata_of_units(self, units: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return (unit, stratum) pairs of these units sorted by unit, and the number of rows of each."""
        chosen = np.isin(self.units, units)
        keys, amounts = np.unique(self.units[chosen] * self.kinds + self.strata[chosen], return_counts=True)
        return keys // self.kinds, keys % self.kinds, amounts


def assign_splits(step: SplitRows, labels: IntArray, units: IntArray) -> IntArray:
    """Return for each row the index of its split in ``SPLITS``.

    ``labels`` are label codes and ``units`` unit codes from 0, both of shape (rows,). When stratified, every label has
    rows in train, if train gets any.

    Raises:
        TooFewUnitsError: a split with a non-zero fraction would be empty.
    """
    fractions = np.array([step.train, step.validation, step.test])
    used = np.flatnonzero(fractions > 0)
    strata = np.unique(labels, return_inverse=True)[1] if step.stratify else np.zeros_like(labels)
    rows = _Rows(strata, units, np.bincount(units))
    if len(rows.sizes) < len(used):
        raise TooFewUnitsError(len(rows.sizes), len(used))
    random = np.random.Generator(np.random.PCG64(step.seed))
    assigned = _assign(fractions[used], rows, random)
    if step.stratify and step.train > 0:
        _cover_strata(assigned, rows)
        if len(np.unique(assigned)) < len(used):
            raise TooFewUnitsError(len(rows.sizes), rows.kinds + len(used) - 1)
    split_indices: IntArray = used[assigned[units]]
    return split_indices


def _assign(fractions: Fractions, rows: _Rows, random: np.random.Generator) -> IntArray:
    """Return the index into ``fractions`` of each unit."""
    targets = fractions[:, None] * np.bincount(rows.strata)[None, :]
    assigned = np.empty(len(rows.sizes), np.int64)
    filled = _assign_groups(assigned, targets, rows, random)
    single = np.flatnonzero(rows.sizes[rows.units] == 1)
    remainders = np.zeros(len(fractions))  # rounding remainders of earlier strata
    for stratum in range(rows.kinds):
        members = random.permutation(single[rows.strata[single] == stratum])
        wanted = targets[:, stratum] - filled[:, stratum] + remainders
        counts = _round_to(wanted, len(members))
        remainders = wanted - counts
        assigned[rows.units[members]] = np.repeat(np.arange(len(fractions)), counts)
    return _fill_empty(assigned, rows, len(fractions))


def _round_to(wanted: Fractions, total: int) -> IntArray:
    """Round to non-negative integers that sum to ``total``."""
    sizes = np.maximum(np.floor(wanted), 0).astype(np.int64)
    while sizes.sum() != total:
        behind = wanted - sizes
        if sizes.sum() < total:
            sizes[np.argmax(behind)] += 1
        else:
            sizes[np.argmin(np.where(sizes > 0, behind, np.inf))] -= 1
    return sizes


def _assign_groups(assigned: IntArray, targets: Table, rows: _Rows, random: np.random.Generator) -> Table:
    """Assign the units of several rows; return the rows that each split then has."""
    filled = np.zeros_like(targets)
    groups = random.permutation(np.flatnonzero(rows.sizes > 1))
    if not len(groups):
        return filled
    units, strata, amounts = rows.strata_of_units(groups)
    for unit in groups[np.argsort(-rows.sizes[groups], kind="stable")]:
        own = slice(*np.searchsorted(units, [unit, unit + 1]))
        stratum, amount = strata[own], amounts[own]
        fullness = ((filled[:, stratum] + amount) / targets[:, stratum]) @ amount
        chosen = int(np.argmin(fullness))
        assigned[unit] = chosen
        filled[chosen, stratum] += amount
    return filled


def _fill_empty(assigned: IntArray, rows: _Rows, splits: int) -> IntArray:
    """Move a unit of the split with the most units to each empty split.

    The unit is one whose labels have the most other rows there, among those the smallest.
    """
    for split in range(splits):
        counts = np.bincount(assigned, minlength=splits)
        if not counts[split]:
            candidates = np.flatnonzero(assigned == np.argmax(counts))
            units, strata, amounts = rows.strata_of_units(candidates)
            spare = np.full(len(assigned), np.iinfo(np.int64).max)
            np.minimum.at(spare, units, np.bincount(strata, amounts).astype(np.int64)[strata] - amounts)
            assigned[candidates[np.lexsort((rows.sizes[candidates], -spare[candidates]))[0]]] = split
    return assigned


def _cover_strata(assigned: IntArray, rows: _Rows) -> None:
    """Move the smallest unit of each stratum that the first split lacks to that split."""
    covered = np.bincount(rows.strata[assigned[rows.units] == 0], minlength=rows.kinds) > 0
    for stratum in np.flatnonzero(~covered):
        candidates = np.unique(rows.units[rows.strata == stratum])
        assigned[candidates[np.argmin(rows.sizes[candidates])]] = 0


SPLITS: Sequence[Split] = tuple(Split)
"""Splits in the order of the indices that ``assign_splits`` returns."""
