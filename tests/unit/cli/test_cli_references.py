"""References to jobs: an id, its beginning, a name, or @last; the table of jobs on a narrow terminal."""

import io
import json

import pytest
from rich.console import Console
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.cli import render
from windlass.cli.job_views import COLUMNS
from windlass.ports import BackendState
from windlass.wire.jobs import JobOut

JOB = ("--task", "text-classification", "--base-model", "tiny", "--dataset", "reviews", "--model", "classifier")


@pytest.fixture
def jobs(cli: Windlass) -> list[str]:
    """Three jobs, two of which have the same name; the newest is last."""
    names = ("nightly", "nightly", "trial")
    return [cli("job", "create", *JOB, "--name", name, "-o", "name").out.strip() for name in names]


def _get(cli: Windlass, reference: str) -> str:
    result = cli("job", "get", reference, "-o", "name")
    assert result.code == 0, result.err
    return result.out.strip()


def test_a_job_is_found_by_its_id_its_beginning_its_name_and_as_the_last(cli: Windlass, jobs: list[str]) -> None:
    first, _, last = jobs
    unique = next(first[:length] for length in range(5, 31) if sum(job.startswith(first[:length]) for job in jobs) == 1)
    assert _get(cli, first) == _get(cli, unique) == first
    assert _get(cli, "trial") == _get(cli, "@last") == last


@pytest.mark.parametrize("reference", ["nightly", "job_"])
def test_an_ambiguous_reference_lists_the_candidates(cli: Windlass, jobs: list[str], reference: str) -> None:
    result = cli("job", "cancel", reference)
    assert result.code == 2
    assert all(job in result.err for job in jobs[:2])
    assert "queued" in result.err
    assert {job["state"] for job in json.loads(cli("job", "list", "--json").out)} == {"queued"}


@pytest.mark.parametrize("reference", ["never", "@last", "job_9", "na\u00efve"])
def test_a_reference_without_a_match_names_the_command_that_lists_jobs(cli: Windlass, reference: str) -> None:
    result = cli("job", "logs", reference)
    assert result.code == 4
    assert "project default has no job" in result.err
    assert "`windlass job list`" in result.err


def test_every_command_for_a_job_accepts_a_reference(
    cli: Windlass, harness: ControlPlaneHarness, jobs: list[str]
) -> None:
    del jobs
    for command in ("get", "logs", "metrics", "events", "checkpoints"):
        assert cli("job", command, "trial").code == 0, command
    assert cli("job", "cancel", "trial").code == 0
    harness.run_worker_once(2)
    assert cli("job", "wait", "trial").code == 1
    assert cli("job", "retry", "trial", "-o", "name").out.startswith("job_")
    assert cli("job", "delete", "trial", "--dry-run").code == 2, "the retry has the same name"


def test_the_decision_of_the_gates_is_in_the_list(cli: Windlass, harness: ControlPlaneHarness) -> None:
    job = cli("job", "create", *JOB, "--gate", "accuracy > 0.95", "-o", "name").out.strip()
    harness.run_worker_once(2)
    run = harness.simulated_run({"id": job})
    run.finish(run.acquire_attempt().json()["attempt"], {"accuracy": 0.9})
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once(3)
    [listed] = json.loads(cli("job", "list", "--json").out)
    assert (listed["state"], listed["decision"]) == ("succeeded", "rejected")
    assert "rejected" in cli("job", "list").out


def _draw(items: list[JobOut], width: int, *, wide: bool = False) -> tuple[list[str], list[str]]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)
    hidden = render.table(console, COLUMNS, items, wide=wide)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines(), hidden


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
def test_ids_are_complete_on_one_line_at_every_width(cli: Windlass, harness: ControlPlaneHarness, width: int) -> None:
    for name in ("a long name of a job that trains", None):
        cli("job", "create", *JOB, *(("--name", name) if name else ()))
    harness.run_worker_once()  # one starts, and the other waits with a reason
    items = [JobOut.model_validate(job) for job in json.loads(cli("job", "list", "--json").out)]
    drawn, hidden = _draw(items, width)
    assert len(drawn) == len(items) + 1
    assert all(line.startswith(job.id) for line, job in zip(drawn[1:], items, strict=True))
    assert width < 48 or all(len(line) <= width for line in drawn)
    assert bool(hidden) is (width < 200)
    if width >= 80:
        assert "REASON" in drawn[0]
        assert "STATE" in drawn[0]
    complete, nothing = _draw(items, width, wide=True)
    assert nothing == []
    assert all(column.title.upper() in complete[0] for column in COLUMNS)
