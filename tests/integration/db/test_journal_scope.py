"""The journal of one project knows no other's jobs, whatever is asked of it."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.house import House

from windlass.domain.errors import NotFoundError
from windlass.domain.records import Event, LogChunk, MetricPoint
from windlass.ports import JobJournal


def event(house: House, project: str, job: str) -> Event:
    return Event(project=project, job=job, sequence=0, time=house.clock.now(), code="x", message="x")


def test_a_project_reads_and_writes_the_journal_of_its_own_jobs_alone(tmp_path: Any) -> None:
    house = House(tmp_path)
    ours, theirs = house.project("ours"), house.project("theirs")
    house.base_model()
    house.dataset("theirs")
    job = house.submit("theirs", key="k")["id"]
    now = house.clock.now()
    point = MetricPoint(job=job, name="loss", step=1, attempt=1, value=1.0, time=now)
    chunk = LogChunk(project=theirs, job=job, start=0, end=1, source="x", attempt=1, key="x", time=now)
    calls: list[Callable[[JobJournal], object]] = [
        lambda journal: journal.append_event(event(house, theirs, job)),
        lambda journal: journal.events(job, 0, 10),
        lambda journal: journal.add_metrics([point]),
        lambda journal: journal.metrics(job, [], -1),
        lambda journal: journal.drop_metrics_above(job, 0),
        lambda journal: journal.append_log(chunk),
        lambda journal: journal.log_length(job),
        lambda journal: journal.log_chunks(job, 0, 10),
        lambda journal: journal.take_batch(job, 1, "x", 1),
    ]
    assert len(calls) == len([name for name in vars(JobJournal) if not name.startswith("_")])
    for call in calls:
        with house.database.write() as work, pytest.raises(NotFoundError, match=job):
            call(work.of(ours).journal)
    for scope in ("project", "everywhere"):
        with house.database.write() as work:
            journal = work.of(theirs).journal if scope == "project" else work.everywhere().journal
            assert len(journal.events(job, 0, 10)) == 1
    with house.database.write() as work:
        for call in calls:
            call(work.of(theirs).journal)
    house.close()
