"""``windlass usage`` and ``windlass budget`` with a real control plane."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.domain.errors import PreconditionFailedError
from windlass.sdk import Client

MONTH = "2026-01"


@pytest.fixture
def used(cli: Windlass, harness: ControlPlaneHarness) -> Windlass:
    """The CLI of a project of which a job holds a GPU for an hour, half of it in optimizer steps."""
    job = harness.submit("default", key="1")
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    harness.clock.advance(3600)
    items: list[dict[str, Any]] = [{"type": "phases", "seconds": {"training": 1800}}]
    reply = run.post("attempts/1/reports", {"source": "rank0", "sequence": 1, "items": items})
    assert reply.status_code == 200, reply.text
    return cli


def test_usage_shows_jobs_and_what_their_time_was_used_for(used: Windlass) -> None:
    shown = used("usage", "-o", "wide")
    assert shown.code == 0, shown.err
    titles, row = shown.out.splitlines()[:2]
    assert "PRODUCTIVE" in titles
    assert "1.000" in row
    assert row.count("50%") == 2, "half is productive, half is idle"
    [item] = json.loads(used("usage", "--json").out)
    assert item["split"]["productive"] == 1800


def test_usage_of_a_month_is_grouped(used: Windlass) -> None:
    shown = used("usage", "--month", MONTH, "--by", "model", "-o", "wide")
    assert (shown.code, "classifier" in shown.out, "POOL" in shown.out) == (0, True, False)
    both = json.loads(used("usage", "--month", MONTH, "--by", "model", "--by", "project", "--json").out)
    assert [(row["model"], row["project"], row["pool"]) for row in both] == [("classifier", "default", "")]
    every = used("usage", "--month", MONTH, "--all-projects", "-o", "name")
    assert every.out == "default/local////\n"
    assert used("usage", "--month", "2026-13").code == 2
    assert used("usage", "--by", "moon").code == 2
    assert used("usage", "--month", "2020-01").err.strip() == "no results"


def test_usage_is_exported_as_csv(used: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    assert used("usage", "--month", MONTH, "--csv", str(file)).code == 0
    [row] = csv.DictReader(file.read_text().splitlines())
    assert (row["project"], row["productive_gpu_seconds"]) == ("default", "1800.000000")
    printed = used("usage", "--month", MONTH, "--all-projects", "--by", "project", "--csv", "-")
    assert printed.out.splitlines()[1].startswith(f"{MONTH},default,,,")
    assert used("usage", "--csv", str(tmp_path / "none" / "x.csv")).code == 2


def test_a_budget_is_shown_and_changed_in_parts(used: Windlass) -> None:
    assert "unlimited" in used("budget", "get").out
    assert "exhausted" in used("budget", "set", "--gpu-hours", "1").out
    changed = json.loads(used("budget", "set", "--cost", "9.5", "--json").out)
    assert (changed["gpu_hours"], changed["cost"], changed["version"]) == (1, 9.5, 2)
    changed = json.loads(used("budget", "set", "--no-gpu-hours", "--json").out)
    assert (changed["gpu_hours"], changed["cost"], changed["state"]) == (None, 9.5, "ok")
    assert "1.0 of no limit" in used("budget", "list").out
    for wrong in ((), ("--cost", "1", "--no-cost"), ("--cost", "-1")):
        assert used("budget", "set", *wrong).code == 2


def test_the_sdk_sets_budgets_and_exports_usage(used: Windlass, harness: ControlPlaneHarness, url: str) -> None:
    key = harness.client.headers["Authorization"].removeprefix("Bearer ")
    with Client(url=url, key=key, project="default") as client:
        assert client.budgets.set(gpu_hours=4, cost=None).state == "ok"
        assert client.budgets.set(gpu_hours=1, cost=None).version == 2
        with pytest.raises(PreconditionFailedError):
            client.budgets.set(gpu_hours=9, cost=None, if_match=1)
        assert [budget.project for budget in client.budgets.all()] == ["default"]
        assert [group.gpu_seconds for group in client.usage.month(MONTH, group_by=["project", "pool"])] == [3600]
        document = client.usage.export(MONTH, format="json", group_by=["kind"])
    [item] = json.loads(document)["items"]
    assert (item["kind"], item["project"]) == ("job", "")


def test_a_refused_job_says_what_is_used_and_who_can_raise_the_budget(used: Windlass) -> None:
    used("budget", "set", "--gpu-hours", "1")
    spec = ("--task", "text-classification", "--base-model", "tiny", "--dataset", "reviews", "--model", "m")
    refused = used("job", "create", *spec)
    assert refused.code == 6
    assert "1.0 of 1.0 GPU-hours" in refused.err
    assert "platform admin" in refused.err
