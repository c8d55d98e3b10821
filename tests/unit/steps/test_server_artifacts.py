"""What the step of the pipeline shows on the page of its run: metrics, losses, the report, and the model."""

import html
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.factories.local_runs import spec
from tests.factories.run_contexts import run_context, run_environment
from tests.unit.report.report_samples import reviews

from windlass.domain.artifacts import Manifest
from windlass.domain.jobs import JobState
from windlass.domain.reports import Command, ResultItem, ResultStatus
from windlass.runtime.context import RunEnvironment
from windlass.wire.runs import RunStatusOut
from windlass_pipelines.report import write
from windlass_pipelines.report.page import CONTENT_SECURITY_POLICY
from windlass_pipelines.steps.on_server import describe
from windlass_pipelines.steps.server_step import RunArtifacts


@dataclass
class Artifact:
    """An output artifact as kfp makes it."""

    path: str
    uri: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def environment(tmp_path: Path) -> RunEnvironment:
    return run_environment(tmp_path, run_context(tmp_path, spec()))


def described(environment: RunEnvironment) -> dict[str, Artifact]:
    """Describe a run that has succeeded."""
    artifacts = {each.name: Artifact(str(environment.workspace / each.name)) for each in fields(RunArtifacts)}
    result = ResultItem(
        outcome=ResultStatus.SUCCEEDED,
        manifest=Manifest(files={}),
        evaluation={"accuracy": 0.5, "note": "text"},
        trained_seconds=1.0,
        time=datetime(2026, 11, 30, tzinfo=UTC),
    )
    run = RunStatusOut(job="job_1", state=JobState.RUNNING, command=Command.CONTINUE, attempt=1, result=result)
    describe(environment, run, RunArtifacts(**artifacts))
    return artifacts


def test_the_page_of_a_run_shows_metrics_losses_report_and_model(environment: RunEnvironment) -> None:
    report = reviews()
    write(environment.workspace / "artifact", report)
    artifacts = described(environment)
    assert artifacts["evaluation"].metadata == {"accuracy": 0.5}
    assert len(artifacts["model"].metadata["sha256"]) == 64
    assert Path(artifacts["report"].path).read_bytes() == (environment.workspace / "artifact/report.html").read_bytes()
    loss = Path(artifacts["loss"].path).read_text()
    assert "<svg" in loss
    assert "evaluation" in loss
    assert f"{report.curves['eval_loss'][-1][0]:,}" in loss


def test_a_page_that_shows_losses_loads_nothing(environment: RunEnvironment) -> None:
    write(environment.workspace / "artifact", reviews())
    loss = Path(described(environment)["loss"].path).read_text()
    assert CONTENT_SECURITY_POLICY in html.unescape(loss)
    assert "<script" not in loss
    assert not re.search(r"(src|href)=|url\(|@import", loss)


def test_a_run_without_a_report_shows_the_rest(environment: RunEnvironment) -> None:
    (environment.workspace / "artifact").mkdir()
    artifacts = described(environment)
    assert artifacts["evaluation"].metadata == {"accuracy": 0.5}
    assert not Path(artifacts["loss"].path).exists()
