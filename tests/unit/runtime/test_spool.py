"""The report spool: items survive a restart, batches keep their content, a truncated end is dropped."""

import errno
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.runtime import spool as spool_module
from windlass.runtime.spool import ReportSpool, SpoolLockedError

Open = Callable[[Path], ReportSpool]


@pytest.fixture
def open_spool() -> Iterator[Open]:
    """Open spools; close them after the test."""
    with ExitStack() as stack:

        def opened(path: Path) -> ReportSpool:
            spool = ReportSpool(path)
            stack.callback(spool.close)
            return spool

        yield opened


def item(number: int) -> str:
    return json.dumps({"n": number})


def numbers(spool: ReportSpool) -> list[int]:
    """Send everything and return the items in the order sent."""
    sent: list[int] = []
    while not spool.is_empty():
        batch = spool.next_batch()
        sent += [json.loads(text)["n"] for text in batch.items]
        spool.acknowledge(batch.sequence)
    return sent


def test_a_batch_has_the_same_items_after_a_restart(tmp_path: Path, open_spool: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    spool.put(item(1))
    first = spool.next_batch()
    spool.put(item(2))
    spool.close()
    again = open_spool(path)
    assert again.next_batch() == first
    again.acknowledge(first.sequence)
    assert again.next_batch().sequence == first.sequence + 1
    assert [json.loads(text)["n"] for text in again.next_batch().items] == [2]


def test_a_truncated_last_line_is_dropped_and_the_rest_kept(tmp_path: Path, open_spool: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    for number in range(3):
        spool.put(item(number))
    spool.close()
    path.write_bytes(path.read_bytes()[:-4])
    again = open_spool(path)
    again.put(item(9))
    assert numbers(again) == [0, 1, 9]


def test_batch_numbers_are_not_reused_after_a_restart(tmp_path: Path, open_spool: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    sequence_numbers = []
    for generation in range(3):
        spool = open_spool(path)
        spool.put(item(generation))
        batch = spool.next_batch()
        sequence_numbers.append(batch.sequence)
        spool.acknowledge(batch.sequence)
        spool.close()
    assert sequence_numbers == sorted(set(sequence_numbers))


def test_a_spool_is_locked_by_one_process(tmp_path: Path, open_spool: Open) -> None:
    spool = open_spool(tmp_path / "1-rank0.jsonl")
    with pytest.raises(SpoolLockedError):
        ReportSpool(tmp_path / "1-rank0.jsonl")
    spool.close()
    open_spool(tmp_path / "1-rank0.jsonl")


def test_a_backlog_is_split_into_bounded_batches_in_order(tmp_path: Path, open_spool: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    for number in range(2 * spool_module.MAX_ITEMS + 5):
        spool.put(item(number))
    assert len(spool.next_batch().items) == spool_module.MAX_ITEMS
    spool.close()
    again = open_spool(path)
    assert len(again.next_batch().items) == spool_module.MAX_ITEMS
    assert numbers(again) == list(range(2 * spool_module.MAX_ITEMS + 5))


def test_large_items_make_small_batches(tmp_path: Path, open_spool: Open) -> None:
    spool = open_spool(tmp_path / "1-rank0.jsonl")
    for _ in range(3):
        spool.put(json.dumps({"n": 1, "text": "x" * (spool_module.MAX_BATCH_BYTES // 2 + 1)}))
    assert [len(spool.next_batch().items), len(numbers(spool))] == [1, 3]


def test_the_file_is_compacted(tmp_path: Path, open_spool: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_COMPACT_BYTES", 2000)
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    for number in range(500):
        spool.put(item(number))
        spool.acknowledge(spool.next_batch().sequence)
    assert path.stat().st_size < 4000
    last = spool.sequence
    spool.close()
    again = open_spool(path)
    again.put(item(500))
    assert again.next_batch().sequence == last + 1


class Disk:
    """Writes of all spools: ``write`` sees the stream and the content; ``written`` counts the bytes."""

    def __init__(self, write: Callable[[Any, bytes], int]) -> None:
        self.write, self.written = write, 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(lambda stream, content: int(stream.write(content)))
    opened = spool_module._locked

    class Stream:
        def __init__(self, path: Path) -> None:
            self.stream = opened(path)

        def write(self, content: bytes) -> int:
            count = disk.write(self.stream, content)
            disk.written += count
            return count

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    monkeypatch.setattr(spool_module, "_locked", Stream)
    return disk


def write_half_and_fail(stream: Any, content: bytes) -> int:
    stream.write(content[: len(content) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_loses_no_item_and_the_file_is_complete_once_there_is_space(
    tmp_path: Path, open_spool: Open, disk: Disk
) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    spool.put(item(1))
    works, disk.write = disk.write, write_half_and_fail
    spool.put(item(2))
    assert [json.loads(text)["n"] for text in spool.next_batch().items] == [1, 2], "sent from memory"
    disk.write = works
    spool.put(item(3))
    first = spool.next_batch()
    spool.close()
    again = open_spool(path)
    assert again.next_batch() == first
    assert numbers(again) == [1, 2, 3]


def test_a_disk_that_writes_only_a_part_of_what_it_is_given_loses_nothing(
    tmp_path: Path, open_spool: Open, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_COMPACT_BYTES", 0)
    disk.write = lambda stream, content: int(stream.write(content[:7]))
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    for number in range(2500):
        spool.put(item(number))
    spool.acknowledge(spool.next_batch().sequence)
    spool.close()
    assert numbers(open_spool(path)) == list(range(spool_module.MAX_ITEMS, 2500))


def test_sending_a_backlog_writes_little_more_than_the_backlog(tmp_path: Path, open_spool: Open, disk: Disk) -> None:
    spool = open_spool(tmp_path / "1-rank0.jsonl")
    for number in range(60_000):
        spool.put(json.dumps({"n": number, "text": "x" * 100}))
    backlog = disk.written
    assert numbers(spool) == list(range(60_000))
    assert disk.written < 3 * backlog


def test_a_spool_above_its_limit_drops_the_oldest_log_items_first_and_never_results(
    tmp_path: Path, open_spool: Open
) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = ReportSpool(path, max_bytes=4000)
    kinds = ["result", "log", "metric", "log", "metric", "checkpoint"]
    for number in range(60):
        spool.put(json.dumps({"type": kinds[number % 6], "n": number, "text": "x" * 50}), kinds[number % 6])
    first = spool.next_batch()
    dropped = spool.drop_excess()
    assert dropped == {}, "the items of a batch that may have been sent are not dropped"
    spool.acknowledge(first.sequence)
    for number in range(60, 120):
        spool.put(json.dumps({"type": kinds[number % 6], "n": number, "text": "x" * 50}), kinds[number % 6])
    dropped = spool.drop_excess()
    assert dropped["log"] == 20
    spool.close()
    left = open_spool(path)
    sent = [json.loads(text) for text in left.next_batch().items]
    assert len(sent) == 60 - sum(dropped.values())
    assert sum(entry["type"] in {"result", "checkpoint"} for entry in sent) == 20
    metrics = [entry["n"] for entry in sent if entry["type"] == "metric"]
    assert metrics == sorted(metrics)
    assert metrics[-1] == 118, "the newest are kept"


def test_a_rejected_batch_is_halved_under_the_same_number(tmp_path: Path, open_spool: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    spool = open_spool(path)
    for number in range(3):
        spool.put(item(number))
    whole = spool.next_batch()
    assert spool.split_batch()
    spool.close()
    again = open_spool(path)
    half = again.next_batch()
    assert (half.sequence, len(whole.items), len(half.items)) == (whole.sequence, 3, 1)
    assert not again.split_batch()
    assert numbers(again) == [0, 1, 2]


@given(st.lists(st.sampled_from(["put", "cut", "acknowledge", "restart"]), max_size=60))
def test_nothing_is_lost_or_duplicated_in_any_order_of_actions(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1-rank0.jsonl"
        spool = ReportSpool(path)
        put, received, taken = 0, [], 0
        for action in actions:
            if action == "put":
                spool.put(item(put))
                put += 1
            elif action == "restart":
                spool.close()
                spool = ReportSpool(path)
            else:
                batch = spool.next_batch()
                if batch.sequence > taken:  # the control plane accepts a sequence number once
                    received += [json.loads(text)["n"] for text in batch.items]
                    taken = batch.sequence
                if action == "acknowledge":
                    spool.acknowledge(batch.sequence)
        while not spool.is_empty():
            batch = spool.next_batch()
            if batch.sequence > taken:
                received += [json.loads(text)["n"] for text in batch.items]
                taken = batch.sequence
            spool.acknowledge(batch.sequence)
        spool.close()
    assert received == list(range(put))
