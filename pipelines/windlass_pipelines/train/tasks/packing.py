"""Puts several short documents into one row, best fit decreasing, so that almost no computed token is padding.

Documents stay apart: each has positions from 0, from which the attention derives a block-diagonal mask.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from windlass_pipelines.train.batches import Example
from windlass_pipelines.train.tasks.conversations import IGNORED


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return bins of document numbers; the lengths in a bin add up to at most ``capacity``.

    Each document goes, longest first, into the fullest bin that still takes it. O(n log n) but for list insertion.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for document in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(room, (lengths[document], -1))
        if place == len(room):
            bins.append([])
            left, target = capacity, len(bins) - 1
        else:
            left, target = room.pop(place)
        bins[target].append(document)
        insort(room, (left - lengths[document], target))
    return bins


def pack(examples: Sequence[Example], capacity: int) -> list[Example]:
    """Return rows of at most ``capacity`` tokens, in the order of their first document."""
    bins = best_fit([len(example.ids) for example in examples], capacity)
    return [_join([examples[i] for i in members]) for members in sorted(bins, key=min)]


def _join(documents: Sequence[Example]) -> Example:
    targets = [document.targets.copy() for document in documents]
    for part in targets:
        part[0] = IGNORED  # the first token of a document is not to be predicted from the document before it
    return Example(
        ids=np.concatenate([document.ids for document in documents]),
        targets=np.concatenate(targets),
        positions=np.concatenate([np.arange(len(document.ids), dtype=np.int32) for document in documents]),
    )
