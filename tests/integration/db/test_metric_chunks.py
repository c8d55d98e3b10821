"""Metric series are stored in chunks; readers see every step once, of the newest attempt."""

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event, text
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain import series
from windlass.domain.records import MetricSample
from windlass.domain.series import StepRange
from windlass.ports import JobTelemetryStore


@pytest.fixture
def job(tmp_path: Path) -> Iterator[tuple[ControlPlaneHarness, str]]:
    """A control plane with one job."""
    harness = ControlPlaneHarness(tmp_path)
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    yield harness, harness.submit("ours", key="k")["id"]
    harness.close()


def samples(
    job: str, steps: list[int], *, attempt: int = 1, name: str = "loss", value: float = 0.0
) -> list[MetricSample]:
    return [MetricSample(job=job, name=name, step=step, attempt=attempt, value=value or step / 2) for step in steps]


def read(telemetry: JobTelemetryStore, job: str, after: int = -1) -> list[tuple[int, float, int]]:
    """Return step, value and attempt of all points of ``loss``, read both ways."""
    series = next((item for item in telemetry.series(job, ["loss"], StepRange(after), 1_000_000)), None)
    whole = [] if series is None else list(zip(series.steps, series.values, series.attempts, strict=True))
    raw, position = [], after
    while page := telemetry.metric_points(job, "loss", position, 700):
        raw += [(point.step, point.value, point.attempt) for point in page]
        position = page[-1].step
    assert raw == whole
    assert series is None or series.total == len(whole)
    return whole


def test_points_in_any_order_and_batches_give_one_sorted_series(job: tuple[ControlPlaneHarness, str]) -> None:
    harness, key = job
    steps = list(range(0, 6000, 2))
    shuffled = random.Random(7).sample(steps, len(steps))
    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        while shuffled:
            batch, shuffled = shuffled[:90], shuffled[90:]
            telemetry.add_metrics(samples(key, [*batch, *batch[:3]]))
        assert read(telemetry, key) == [(step, step / 2, 1) for step in steps]
        assert read(telemetry, key, after=2999)[0] == (3000, 1500.0, 1)
        assert read(telemetry, key, after=5998) == []


def test_a_resumed_attempt_replaces_the_points_after_its_checkpoint(job: tuple[ControlPlaneHarness, str]) -> None:
    harness, key = job
    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        telemetry.add_metrics(samples(key, list(range(2000))))
        telemetry.drop_metrics_above(key, 700)
        telemetry.add_metrics(samples(key, [0, *range(701, 900)], attempt=2, value=9.0))
        telemetry.add_metrics(samples(key, [5, 800], attempt=1, value=7.0))
        points = read(telemetry, key)
    assert [step for step, _, _ in points] == list(range(900))
    by_step = {step: (value, attempt) for step, value, attempt in points}
    assert (by_step[0], by_step[5], by_step[700]) == ((9.0, 2), (7.0, 1), (350.0, 1))
    assert by_step[800] == (9.0, 2), "a late report of an older attempt does not replace a newer one"


def test_a_long_job_is_read_in_few_rows_and_answered_with_few_points(job: tuple[ControlPlaneHarness, str]) -> None:
    harness, key = job
    length, names = 34_000, ("grad_norm", "learning_rate", "loss", "tokens_per_second")
    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        for name in names:
            for start in range(0, length, 17_000):
                telemetry.add_metrics(samples(key, list(range(start, start + 17_000)), name=name))
        telemetry.add_metrics(samples(key, [12_345], value=-8.0))
    with harness.engine.connect() as connection:
        rows = connection.execute(text("SELECT count(*) FROM metric_chunk")).scalar()
    assert rows is not None
    assert rows <= len(names) * (length // 512 + 8)
    statements: list[str] = []
    event.listen(harness.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    url = f"/v1/projects/ours/jobs/{key}/metrics"
    series = harness.client.get(url).json()["series"]
    assert sum("metric_chunk" in statement for statement in statements) == 2
    assert [(item["name"], item["total"]) for item in series] == [(name, length) for name in names]
    assert all(len(item["steps"]) <= 2000 for item in series)
    loss = dict(zip(series[2]["steps"], series[2]["values"], strict=True))
    assert (loss[0], loss[12_345], loss[length - 1]) == (0.0, -8.0, (length - 1) / 2)
    assert len(harness.client.get(url, params={"points": 10, "names": "loss"}).json()["series"][0]["steps"]) <= 10
    assert harness.client.get(url, params={"points": 10_001}).status_code == 422
    page = harness.client.get(f"{url}/loss", params={"limit": 3}).json()
    assert [item["step"] for item in page["items"]] == [0, 1, 2]
    page = harness.client.get(f"{url}/loss", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert page["items"] == [{"step": 3, "value": 1.5, "attempt": 1}]


def test_a_long_series_is_downsampled_from_the_extremes_of_its_chunks(
    job: tuple[ControlPlaneHarness, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, key = job
    length, limit, after = 6_000, 50, 2_010
    generator = random.Random(7)
    values = [generator.random() for _ in range(length)]
    values[3_001], values[4_002], values[5_003] = -1.0, 2.0, float("nan")
    points = [
        MetricSample(job=key, name="loss", step=step, attempt=1, value=value) for step, value in enumerate(values)
    ]
    read_points = []

    def downsample(content: Sequence[float], points: int) -> Sequence[int]:
        read_points.append(len(content))
        return series.downsample(content, points)

    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        telemetry.add_metrics(points)
        monkeypatch.setattr("windlass.db.metric_chunks.downsample", downsample)
        [loss] = telemetry.series(key, [], StepRange(after), limit)
    assert max(read_points) < length // 10
    shown = dict(zip(loss.steps, loss.values, strict=True))
    assert (len(shown) <= limit, loss.total) == (True, length - after - 1)
    assert (shown[3_001], shown[4_002]) == (-1.0, 2.0)
    assert math.isnan(shown[5_003])
    assert (loss.steps[0], loss.steps[-1]) == (after + 1, length - 1)


@pytest.mark.parametrize(
    ("steps", "limit"),
    [
        (StepRange(999, 1_005), 100),
        (StepRange(1_000, 1_000), 100),
        (StepRange(-1, 0), 100),
        (StepRange(511, 1_023), 1_000),
        (StepRange(100, 5_900), 10_000),
        (StepRange(700, 5_300), 40),
        (StepRange(5_990, 7_000), 100),
        (StepRange(6_000, 7_000), 100),
    ],
)
def test_a_range_of_steps_has_its_points_and_no_other(
    job: tuple[ControlPlaneHarness, str], steps: StepRange, limit: int
) -> None:
    harness, key = job
    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        telemetry.add_metrics(samples(key, list(range(6_000))))
        found = telemetry.series(key, [], steps, limit)
    expected = range(steps.after + 1, min(steps.through, 5_999) + 1)
    if not expected:
        assert found == []
        return
    [loss] = found
    assert loss.total == len(expected)
    assert loss.values == [step / 2 for step in loss.steps]
    if len(expected) <= limit:
        assert loss.steps == list(expected)
    else:
        assert len(loss.steps) <= limit
        assert (loss.steps[0], loss.steps[-1]) == (expected[0], expected[-1])


def test_the_steps_between_two_chunks_have_no_series(job: tuple[ControlPlaneHarness, str]) -> None:
    harness, key = job
    with harness.database.write() as uow:
        telemetry = uow.all_projects().telemetry
        telemetry.add_metrics(samples(key, [0, 100]))
        assert telemetry.series(key, [], StepRange(10, 20), 100) == []
    url = f"/v1/projects/ours/jobs/{key}/metrics"
    assert harness.client.get(url, params={"after": 10, "through": 20}).json() == {"series": []}
    [loss] = harness.client.get(url, params={"through": 0}).json()["series"]
    assert (loss["steps"], loss["total"]) == ([0], 1)
    assert harness.client.get(url, params={"through": -1}).status_code == 422
