"""Statistics of every split of a dataset: counts, row hashes, token lengths, near duplicates, personal data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from windlass.dataset_files.findings import Findings
from windlass.domain.datasets import Split
from windlass_pipelines.data import hashing, pii
from windlass_pipelines.data.hashing import BoolArray, HashArray
from windlass_pipelines.data.near_duplicates import MAX_REPORT_ROWS, NearDuplicateIndex
from windlass_pipelines.data.row_store import RowStore
from windlass_pipelines.data.token_lengths import Lengths, TokenCounter
from windlass_pipelines.rows import Row, is_incomplete, texts

_NEAR_THRESHOLD = 0.9
_BATCH = 256


@dataclass
class SplitStatistics:
    """Statistics of one split. Hash arrays have shape (rows, 2), lengths and ``complete`` (rows,)."""

    rows: int
    max_labels: int
    labels: Counter[str] = field(default_factory=Counter)
    """Complete rows per label."""
    complete: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    """Which rows training can use."""
    row_hashes: HashArray = field(default_factory=lambda: hashing.from_bytes(b""))
    input_hashes: HashArray = field(default_factory=lambda: hashing.from_bytes(b""))
    group_hashes: HashArray = field(default_factory=lambda: hashing.from_bytes(b""))
    """Hashes of the groups of rows that have one."""
    lengths: Lengths = field(default_factory=lambda: np.zeros(0, np.uint32))
    personal: Counter[str] = field(default_factory=Counter)
    near_duplicates: int = 0
    near_overlap: int = 0
    """Near duplicates of train rows; 0 for train itself."""

    @property
    def missing(self) -> int:
        """Number of rows that training cannot use."""
        return self.rows - int(self.complete.sum())

    @property
    def too_many_labels(self) -> bool:
        """Whether there are more labels than are counted."""
        return len(self.labels) > self.max_labels


def compute_statistics(
    rows: RowStore, count: TokenCounter, max_labels: int, findings: Findings
) -> dict[Split, SplitStatistics]:
    """Read the rows twice: once for the exact statistics, once for near duplicates."""
    statistics = {split: _split_statistics(rows, split, count, max_labels) for split in rows.counts}
    _count_near_duplicates(rows, statistics, findings)
    return statistics


def _split_statistics(rows: RowStore, split: Split, count: TokenCounter, max_labels: int) -> SplitStatistics:
    stats = SplitStatistics(rows.counts[split], max_labels)
    row_hashes, input_hashes, group_hashes = bytearray(), bytearray(), bytearray()
    stats.lengths, stats.complete = np.zeros(stats.rows, np.uint32), np.zeros(stats.rows, np.bool_)
    start = 0
    for batch in _batches(rows.read(split)):
        stats.lengths[start : start + len(batch)] = _lengths(batch, count)
        stats.complete[start : start + len(batch)] = [not is_incomplete(row) for row in batch]
        start += len(batch)
        for row in batch:
            row_hashes += hashing.row_hash(row)
            input_hashes += hashing.input_hash(row)
            if (group := row.get("group")) is not None:
                group_hashes += hashing.text_hash(group)
            if "label" in row and not is_incomplete(row):
                _count_label(stats, row["label"])
            for text in texts(row):
                stats.personal.update(pii.mask(text)[1])
    stats.row_hashes, stats.input_hashes, stats.group_hashes = map(
        hashing.from_bytes, (row_hashes, input_hashes, group_hashes)
    )
    return stats


def _count_label(stats: SplitStatistics, label: str) -> None:
    if label in stats.labels or not stats.too_many_labels:
        stats.labels[label] += 1


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _lengths(batch: list[Row], count: TokenCounter) -> list[int]:
    """Return the number of tokens of each row; for a conversation, the sum over its messages without a template."""
    joined = [text for row in batch for text in texts(row)]
    counts = iter(count(joined))
    return [sum(islice(counts, len(texts(row)))) for row in batch]


def _count_near_duplicates(rows: RowStore, statistics: Mapping[Split, SplitStatistics], findings: Findings) -> None:
    if not statistics:
        return
    first: BoolArray = hashing.first_occurrences(np.concatenate([stats.row_hashes for stats in statistics.values()]))
    index = NearDuplicateIndex(_NEAR_THRESHOLD)
    split_by_row: dict[int, Split] = {}
    checked = 0
    for number, (split, row) in enumerate(rows.read_all()):
        if not first[number] or not any(text.strip() for text in texts(row)):
            continue
        checked += 1
        if checked > MAX_REPORT_ROWS:
            message = (
                f"near duplicates were searched in the first {MAX_REPORT_ROWS:,} of {int(first.sum()):,} distinct rows"
            )
            findings.add("info", "near-duplicates-partial", message)
            return
        split_by_row[number] = split
        earlier = index.add(number, row)
        if earlier is not None and split_by_row[earlier] is split:
            statistics[split].near_duplicates += 1
        elif earlier is not None and split_by_row[earlier] is Split.TRAIN:
            statistics[split].near_overlap += 1
