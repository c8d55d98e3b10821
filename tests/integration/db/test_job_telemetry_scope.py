"""The telemetry store of a project rejects jobs of other projects."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.errors import NotFoundError
from windlass.domain.records import Event, MetricSample, StoredLogChunk
from windlass.domain.series import ALL_STEPS
from windlass.ports import JobTelemetryStore


def event(harness: ControlPlaneHarness, project: str, job: str) -> Event:
    return Event(project=project, job=job, sequence=0, time=harness.clock.now(), code="x", message="x")


def test_telemetry_methods_reject_jobs_of_other_projects(tmp_path: Any) -> None:
    harness = ControlPlaneHarness(tmp_path)
    ours, theirs = harness.create_project("ours"), harness.create_project("theirs")
    harness.create_base_model()
    harness.create_dataset("theirs")
    job = harness.submit("theirs", key="k")["id"]
    now = harness.clock.now()
    point = MetricSample(job=job, name="loss", step=1, attempt=1, value=1.0)
    chunk = StoredLogChunk(
        project=theirs, job=job, start=0, end=1, source="x", attempt=1, key="x", position=0, time=now
    )
    calls: list[Callable[[JobTelemetryStore], object]] = [
        lambda telemetry: telemetry.append_event(event(harness, theirs, job)),
        lambda telemetry: telemetry.newest_event(job),
        lambda telemetry: telemetry.events(job, 0, 10),
        lambda telemetry: telemetry.add_metrics([point]),
        lambda telemetry: telemetry.series(job, [], ALL_STEPS, 10),
        lambda telemetry: telemetry.metric_points(job, "loss", -1, 10),
        lambda telemetry: telemetry.drop_metrics_above(job, 0),
        lambda telemetry: telemetry.append_log(chunk),
        lambda telemetry: telemetry.log_length(job),
        lambda telemetry: telemetry.log_chunks(job, 0, 10),
        lambda telemetry: telemetry.newest_batch(job, 1, "x"),
        lambda telemetry: telemetry.accept_batch(job, 1, "x", 1),
        lambda telemetry: telemetry.delete_history(job, 10),
    ]
    assert len(calls) == len([name for name in dir(JobTelemetryStore) if not name.startswith("_")])
    for call in calls:
        with harness.database.write() as uow, pytest.raises(NotFoundError, match=job):
            call(uow.project(ours).telemetry)
    for scope in ("project", "all"):
        with harness.database.write() as uow:
            telemetry = uow.project(theirs).telemetry if scope == "project" else uow.all_projects().telemetry
            assert [event.code for event in telemetry.events(job, 0, 10)] == ["job_accepted", "training_defaults"]
    with harness.database.write() as uow:
        for call in calls:
            call(uow.project(theirs).telemetry)
    harness.close()
