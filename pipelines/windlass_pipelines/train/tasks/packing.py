"""Packs several short documents into one row with best-fit-decreasing bin packing, to reduce padding.

Positions restart at 0 with each document; the attention derives a block-diagonal mask from them.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from windlass_pipelines.train.batches import EncodedExample
from windlass_pipelines.train.tasks.conversations import IGNORE_INDEX


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return bins of document indices; the lengths in a bin add up to at most ``capacity``.

    Each document goes, longest first, into the fullest bin with enough space. O(n log n) except for list insertion.
    """
    bins: list[list[int]] = []
    free_space: list[tuple[int, int]] = []
    for document in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        index = bisect_left(free_space, (lengths[document], -1))
        if index == len(free_space):
            bins.append([])
            free, bin_index = capacity, len(bins) - 1
        else:
            free, bin_index = free_space.pop(index)
        bins[bin_index].append(document)
        insort(free_space, (free - lengths[document], bin_index))
    return bins


def pack(examples: Sequence[EncodedExample], capacity: int) -> list[EncodedExample]:
    """Return rows of at most ``capacity`` tokens, in the order of their first document."""
    bins = best_fit([len(example.ids) for example in examples], capacity)
    return [_join([examples[i] for i in members]) for members in sorted(bins, key=min)]


def _join(documents: Sequence[EncodedExample]) -> EncodedExample:
    targets = [document.targets.copy() for document in documents]
    for document_targets in targets:
        document_targets[0] = IGNORE_INDEX  # a document's first token has no context in the row
    return EncodedExample(
        ids=np.concatenate([document.ids for document in documents]),
        targets=np.concatenate(targets),
        positions=np.concatenate([np.arange(len(document.ids), dtype=np.int32) for document in documents]),
    )
