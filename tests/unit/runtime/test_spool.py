"""The journal: what is put survives, batches keep their content, a torn end is dropped."""

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

from windlass.runtime import spool
from windlass.runtime.spool import Journal, JournalHeldError

Open = Callable[[Path], Journal]


@pytest.fixture
def journal_at() -> Iterator[Open]:
    """Open journals; what a test leaves open is closed after it."""
    with ExitStack() as stack:

        def opened(path: Path) -> Journal:
            journal = Journal(path)
            stack.callback(journal.close)
            return journal

        yield opened


def item(number: int) -> str:
    return json.dumps({"n": number})


def numbers(journal: Journal) -> list[int]:
    """Send everything and return the items in the order sent."""
    sent: list[int] = []
    while not journal.empty():
        batch = journal.next()
        sent += [json.loads(text)["n"] for text in batch.items]
        journal.acknowledge(batch.sequence)
    return sent


def test_a_batch_that_was_cut_before_the_death_has_the_same_items_after_it(tmp_path: Path, journal_at: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    journal = journal_at(path)
    journal.put(item(1))
    first = journal.next()
    journal.put(item(2))
    journal.close()
    again = journal_at(path)
    assert again.next() == first
    again.acknowledge(first.sequence)
    assert again.next().sequence == first.sequence + 1
    assert [json.loads(text)["n"] for text in again.next().items] == [2]


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path: Path, journal_at: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    journal = journal_at(path)
    for number in range(3):
        journal.put(item(number))
    journal.close()
    path.write_bytes(path.read_bytes()[:-4])
    again = journal_at(path)
    again.put(item(9))
    assert numbers(again) == [0, 1, 9]


def test_numbers_of_batches_never_come_again_after_a_restart(tmp_path: Path, journal_at: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    seen = []
    for life in range(3):
        journal = journal_at(path)
        journal.put(item(life))
        batch = journal.next()
        seen.append(batch.sequence)
        journal.acknowledge(batch.sequence)
        journal.close()
    assert seen == sorted(set(seen))


def test_one_process_holds_a_journal(tmp_path: Path, journal_at: Open) -> None:
    journal = journal_at(tmp_path / "1-rank0.jsonl")
    with pytest.raises(JournalHeldError):
        Journal(tmp_path / "1-rank0.jsonl")
    journal.close()
    journal_at(tmp_path / "1-rank0.jsonl")


def test_a_backlog_is_cut_into_batches_of_bounded_size_in_order(tmp_path: Path, journal_at: Open) -> None:
    path = tmp_path / "1-rank0.jsonl"
    journal = journal_at(path)
    for number in range(2 * spool.MAX_ITEMS + 5):
        journal.put(item(number))
    assert len(journal.next().items) == spool.MAX_ITEMS
    journal.close()
    again = journal_at(path)
    assert len(again.next().items) == spool.MAX_ITEMS
    assert numbers(again) == list(range(2 * spool.MAX_ITEMS + 5))


def test_large_items_make_small_batches(tmp_path: Path, journal_at: Open) -> None:
    journal = journal_at(tmp_path / "1-rank0.jsonl")
    for _ in range(3):
        journal.put(json.dumps({"n": 1, "text": "x" * (spool.MAX_BYTES // 2 + 1)}))
    assert [len(journal.next().items), len(numbers(journal))] == [1, 3]


def test_the_file_does_not_grow_for_ever(tmp_path: Path, journal_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_COMPACT_BYTES", 2000)
    path = tmp_path / "1-rank0.jsonl"
    journal = journal_at(path)
    for number in range(500):
        journal.put(item(number))
        journal.acknowledge(journal.next().sequence)
    assert path.stat().st_size < 4000
    last = journal.sequence
    journal.close()
    assert journal_at(path).next().sequence == last + 1


def test_a_full_disk_costs_the_spool_and_not_what_is_in_memory(
    tmp_path: Path, journal_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk that takes half a line."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def write(self, content: bytes) -> int:
            self.stream.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

    path = tmp_path / "1-rank0.jsonl"
    journal = journal_at(path)
    journal.put(item(1))
    stream = journal._stream
    monkeypatch.setattr(journal, "_stream", Full(stream))
    journal.put(item(2))
    monkeypatch.setattr(journal, "_stream", stream)
    journal.put(item(3))
    assert numbers(journal) == [1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@given(st.lists(st.sampled_from(["put", "cut", "acknowledge", "restart"]), max_size=60))
def test_nothing_is_lost_or_doubled_whatever_happens(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1-rank0.jsonl"
        journal = Journal(path)
        put, received, taken = 0, [], 0
        for action in actions:
            if action == "put":
                journal.put(item(put))
                put += 1
            elif action == "restart":
                journal.close()
                journal = Journal(path)
            else:
                batch = journal.next()
                if batch.sequence > taken:  # the control plane takes a number once
                    received += [json.loads(text)["n"] for text in batch.items]
                    taken = batch.sequence
                if action == "acknowledge":
                    journal.acknowledge(batch.sequence)
        while not journal.empty():
            batch = journal.next()
            if batch.sequence > taken:
                received += [json.loads(text)["n"] for text in batch.items]
                taken = batch.sequence
            journal.acknowledge(batch.sequence)
        journal.close()
    assert received == list(range(put))
