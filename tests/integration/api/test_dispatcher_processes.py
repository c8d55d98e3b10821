"""Several workers over one outbox, in processes that are stopped and killed: each intent has one holder at a time."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.dispatcher_processes import LEASE, DispatcherProcesses

pytestmark = pytest.mark.processes
TEN_MINUTES = 600
INTENTS = 200
RACED_INTENTS = 1000
MAX_HELD = 4
"""The threads of one worker: the most intents that it holds at a time."""
MAX_DISPLACEMENT = 50
"""How many intents may begin before an older one: more than the threads of two workers, for a busy machine."""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[DispatcherProcesses]:
    started = DispatcherProcesses(tmp_path)
    yield started
    started.close()


def test_a_lease_holds_whatever_wall_clocks_show_and_ends_when_its_worker_is_stopped(
    workers: DispatcherProcesses,
) -> None:
    """No early steal and no dead lease; a worker that was stopped beyond its lease completes nothing."""
    workers.put("subject")
    workers.set_wall_clock("one", TEN_MINUTES)
    workers.set_wall_clock("two", -TEN_MINUTES)
    workers.start("one", hold=True)
    workers.wait_for(lambda: ("one", "begin", "subject") in workers.entries(), "the first worker handles it")
    workers.start("two", hold=True)
    time.sleep(LEASE.total_seconds() / 2)
    workers.set_wall_clock("one", -TEN_MINUTES)
    workers.set_wall_clock("two", TEN_MINUTES)
    time.sleep(LEASE.total_seconds())
    assert [worker for worker, *_ in workers.entries()] == ["one"], "its holder renews it"
    workers.signal("one", signal.SIGSTOP)
    workers.wait_for(lambda: ("two", "begin", "subject") in workers.entries(), "the second worker takes it over")
    workers.release("one")
    workers.signal("one", signal.SIGCONT)
    workers.wait_for(lambda: ("one", "end", "subject") in workers.entries(), "the first worker continues")
    time.sleep(0.5)  # it completes the intent now, with the fence of its expired lease
    assert workers.left() == ["subject"]
    assert workers.holders() == ["two"]
    workers.release("two")
    workers.wait_for(lambda: workers.left() == [], "the second worker completes it")
    assert Counter(phase for _, phase, _ in workers.entries()) == {"begin": 2, "end": 2}


def test_each_intent_is_handled_and_repeated_only_after_the_death_of_its_worker(
    workers: DispatcherProcesses,
) -> None:
    early = {f"s{number}" for number in range(INTENTS // 2)}
    late = {f"s{number}" for number in range(INTENTS // 2, INTENTS)}
    workers.put(*sorted(early))
    workers.start("one")
    workers.wait_for(lambda: workers.left() == [], "the first worker handles the early intents")
    workers.hold("one")
    workers.put(*sorted(late))
    workers.wait_for(
        lambda: any(subject in late for *_, subject in workers.entries()), "the first worker holds a late intent"
    )
    workers.start("two")
    workers.wait_for(lambda: len(workers.left()) <= MAX_HELD, "the second worker handles all others")
    workers.signal("one", signal.SIGKILL)
    workers.start("three")
    workers.wait_for(lambda: workers.left() == [], "the outbox is empty")
    entries = workers.entries()
    ended = Counter(subject for _, phase, subject in entries if phase == "end")
    assert set(ended) == early | late
    begun = Counter(subject for _, phase, subject in entries if phase == "begin")
    by_killed = {subject for worker, _, subject in entries if worker == "one"}
    assert {subject for subject, count in begun.items() if count > 1} <= by_killed
    assert 1 <= sum(begun.values()) - INTENTS <= MAX_HELD, "only what the killed worker held is repeated"


def test_two_workers_race_over_many_intents_each_is_handled_once_and_the_oldest_never_waits(
    workers: DispatcherProcesses,
) -> None:
    subjects = [f"s{number:04}" for number in range(RACED_INTENTS)]
    workers.put(*subjects)
    for worker in ("one", "two"):
        workers.start(worker, hold=True)
    workers.wait_for(lambda: {worker for worker, *_ in workers.entries()} == {"one", "two"}, "both workers run")
    for worker in ("one", "two"):
        workers.release(worker)
    workers.wait_for(lambda: workers.left() == [], "the outbox is empty")
    begun = [(worker, subject) for worker, phase, subject in workers.entries() if phase == "begin"]
    assert Counter(subject for _, subject in begun) == dict.fromkeys(subjects, 1)
    displaced = [position - int(subject[1:]) for position, (_, subject) in enumerate(begun)]
    assert max(displaced) <= MAX_DISPLACEMENT, "no intent waits while many newer ones are handled"
