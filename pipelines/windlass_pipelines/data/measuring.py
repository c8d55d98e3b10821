"""Measures every split of a dataset: counts, keys of rows, token lengths, near duplicates, personal data."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from windlass.domain.datasets import Split
from windlass_pipelines.data import keys, personal
from windlass_pipelines.data.findings import Findings
from windlass_pipelines.data.keys import Flags, Keys
from windlass_pipelines.data.lengths import Counter as TokenCounter
from windlass_pipelines.data.lengths import Lengths
from windlass_pipelines.data.near import REPORT_ROWS, NearIndex
from windlass_pipelines.data.rows import Row, is_incomplete, texts
from windlass_pipelines.data.rowset import RowSet

MAX_LABELS = 1000
"""Distinct labels that are counted; a dataset with more is rejected."""
_NEAR_THRESHOLD = 0.9
_BATCH = 256


@dataclass
class SplitFacts:
    """What one split holds. Keys have shape (rows, 2), lengths (rows,)."""

    rows: int
    labels: Counter[str] = field(default_factory=Counter)
    missing: int = 0
    row_keys: Keys = field(default_factory=lambda: keys.from_bytes(b""))
    input_keys: Keys = field(default_factory=lambda: keys.from_bytes(b""))
    group_keys: Keys = field(default_factory=lambda: keys.from_bytes(b""))
    """Of the rows that have a group."""
    lengths: Lengths = field(default_factory=lambda: np.zeros(0, np.uint32))
    personal: Counter[str] = field(default_factory=Counter)
    near_duplicates: int = 0
    near_overlap: int = 0
    """Rows that nearly repeat a train row; 0 for train itself."""

    @property
    def too_many_labels(self) -> bool:
        """Whether labels were left uncounted."""
        return len(self.labels) > MAX_LABELS


def measure(rows: RowSet, count: TokenCounter, findings: Findings) -> dict[Split, SplitFacts]:
    """Read the rows twice: once for everything exact, once for the near duplicates."""
    facts = {split: _measure_split(rows, split, count) for split in rows.counts}
    _count_near(rows, facts, findings)
    return facts


def _measure_split(rows: RowSet, split: Split, count: TokenCounter) -> SplitFacts:
    found = SplitFacts(rows.counts[split])
    row_keys, input_keys, group_keys = bytearray(), bytearray(), bytearray()
    found.lengths = np.zeros(found.rows, np.uint32)
    start = 0
    for batch in _batches(rows.read(split)):
        found.lengths[start : start + len(batch)] = _lengths(batch, count)
        start += len(batch)
        for row in batch:
            row_keys += keys.row_key(row)
            input_keys += keys.input_key(row)
            if (group := row.get("group")) is not None:
                group_keys += keys.text_key(group)
            if (label := row.get("label")) is not None and (label in found.labels or not found.too_many_labels):
                found.labels[label] += 1
            found.missing += is_incomplete(row)
            for text in texts(row):
                found.personal.update(personal.mask(text)[1])
    found.row_keys, found.input_keys, found.group_keys = map(keys.from_bytes, (row_keys, input_keys, group_keys))
    return found


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _lengths(batch: list[Row], count: TokenCounter) -> list[int]:
    """Return the tokens of each row; of a conversation, the sum over its messages without any template."""
    joined = [text for row in batch for text in texts(row)]
    counts = iter(count(joined))
    return [sum(islice(counts, len(texts(row)))) for row in batch]


def _count_near(rows: RowSet, facts: Mapping[Split, SplitFacts], findings: Findings) -> None:
    if not facts:
        return
    first: Flags = keys.first_of_equal(np.concatenate([found.row_keys for found in facts.values()]))
    index = NearIndex(_NEAR_THRESHOLD)
    owners: dict[int, Split] = {}
    looked = 0
    for number, (split, row) in enumerate(rows.read_all()):
        if not first[number] or not any(text.strip() for text in texts(row)):
            continue
        looked += 1
        if looked > REPORT_ROWS:
            message = (
                f"near duplicates were looked for in the first {REPORT_ROWS:,} distinct rows of {int(first.sum()):,}"
            )
            findings.add("info", "near-duplicates-partial", message)
            return
        owners[number] = split
        earlier = index.add(number, row)
        if earlier is not None and owners[earlier] is split:
            facts[split].near_duplicates += 1
        elif earlier is not None and owners[earlier] is Split.TRAIN:
            facts[split].near_overlap += 1
