"""The register step against the real control plane."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.factories.local_runs import spec, step_settings
from tests.factories.published_artifacts import damage_weights, publish_model, result_item
from tests.factories.run_contexts import run_context, run_environment
from tests.factories.served_control_plane import ServedControlPlane

from windlass.domain.errors import ChecksumMismatchError
from windlass.domain.reports import ReportBatch
from windlass.runtime.artifacts import read_manifest
from windlass_pipelines.steps.register import register

SPEC = spec(evaluation={"gates": ["perplexity <= 3"]})


@dataclass
class ReportedRun:
    """A run whose trainer has reported a successful result."""

    control_plane: ServedControlPlane
    run: str
    folder: Path
    """The published artifact."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportedRun]:
    with ServedControlPlane(tmp_path) as control_plane:
        bound = control_plane.environment(run_environment(tmp_path, run_context(tmp_path, SPEC)))
        for name, value in bound.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WINDLASS_STEP_SETTINGS", json.dumps(step_settings("ok", control_plane_timeout_seconds=5)))
        assert control_plane.runs.acquire_attempt("test").attempt == 1
        yield ReportedRun(control_plane, bound.context.identity.run, publish_model(bound))


def report_result(run: ReportedRun, perplexity: float = 2.0) -> None:
    reported = result_item(read_manifest(run.folder)).model_copy(update={"evaluation": {"perplexity": perplexity}})
    run.control_plane.runs.report(1, ReportBatch(source="driver", sequence=1, items=(reported,)))


@pytest.mark.parametrize(("perplexity", "decision"), [(2.0, "candidate"), (4.0, "rejected")])
def test_the_step_registers_a_verified_artifact(run: ReportedRun, perplexity: float, decision: str) -> None:
    report_result(run, perplexity)
    assert register() == decision
    assert run.control_plane.steps == {"register": "succeeded"}
    assert [version.decision.value for version in run.control_plane.versions] == [decision]


def test_the_step_does_not_register_a_damaged_artifact(run: ReportedRun) -> None:
    report_result(run)
    damage_weights(run.folder)
    with pytest.raises(ChecksumMismatchError):
        register()
    assert run.control_plane.versions == []
    assert "model.safetensors" in run.control_plane.events[-1].message


def test_a_lost_reply_does_not_register_twice(run: ReportedRun) -> None:
    report_result(run)
    dropped: list[str] = []

    def drop_first(path: str) -> bool:
        if path.endswith(f"{run.run}/register") and not dropped:
            dropped.append(path)
            return True
        return False

    run.control_plane.drop_replies = drop_first
    assert register() == "candidate"
    assert len(run.control_plane.sent(f"{run.run}/register")) == 2
    assert len(run.control_plane.versions) == 1
