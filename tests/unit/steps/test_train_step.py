"""The train step against the fake control plane, with a stand-in trainer in a process of its own."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.runs import run_context, spec, step_settings

from windlass.domain.errors import WindlassError
from windlass.domain.reports import Command
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass_pipelines.steps.progress import RunLostError, read_notes
from windlass_pipelines.steps.train import train

pytestmark = pytest.mark.processes
Train = Callable[..., str]


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


@pytest.fixture
def train_step(plane: FakeControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    level = logging.getLogger("httpx2").level

    def run(*behaviours: str, **settings: object) -> str:
        context = run_context(plane, tmp_path, spec(max_duration_seconds=10))
        context.workspace.mkdir()
        context.write(tmp_path / "context.json")
        monkeypatch.setenv("WINDLASS_RUN_CONTEXT", str(tmp_path / "context.json"))
        monkeypatch.setenv("WINDLASS_STEP_SETTINGS", json.dumps(step_settings(*behaviours, **settings)))
        return train()

    yield run
    logging.getLogger("httpx2").setLevel(level)


def lives(tmp_path: Path) -> int:
    return (tmp_path / "workspace" / "lives").stat().st_size


def states(plane: FakeControlPlane) -> list[str]:
    return [attempt.state for attempt in plane.state.attempts]


def log(plane: FakeControlPlane) -> str:
    return "".join(chunk["text"] for chunk in plane.state.step_logs["train"])


def test_a_result_ends_the_step(train_step: Train, plane: FakeControlPlane, tmp_path: Path) -> None:
    assert train_step("ok") == "succeeded"
    assert plane.state.steps == {"train": {"state": "succeeded", "message": ""}}
    assert read_notes(tmp_path / "workspace")["train"].outcome == "succeeded"
    sequences = [chunk["sequence"] for chunk in plane.state.step_logs["train"]]
    assert sequences == list(range(1, len(sequences) + 1))
    assert "stand-in trainer, life 1: ok" in log(plane)


def test_each_death_opens_the_next_attempt_at_once(train_step: Train, plane: FakeControlPlane, tmp_path: Path) -> None:
    assert train_step("die", "die-early", "ok") == "succeeded"
    assert states(plane) == ["lost", "ended"]
    assert lives(tmp_path) == 3
    assert "signal 9 (Killed)" in log(plane)
    assert "exit code 1" in log(plane)


def test_the_third_death_fails_the_step_with_the_way_it_died(
    train_step: Train, plane: FakeControlPlane, tmp_path: Path
) -> None:
    with pytest.raises(WindlassError, match=r"died 3 times.*signal 9"):
        train_step("die")
    assert states(plane) == ["lost"] * 3
    assert plane.state.steps["train"]["state"] == "failed"
    assert read_notes(tmp_path / "workspace")["train"].state == "failed"


def test_a_fenced_trainer_is_not_started_again(train_step: Train, plane: FakeControlPlane, tmp_path: Path) -> None:
    plane.job_state = "cancelled"
    assert train_step("ok") == "stopped"
    assert states(plane) == []
    assert lives(tmp_path) == 1


@pytest.mark.parametrize("command", [Command.PREEMPT, Command.CANCEL])
def test_a_trainer_that_dies_after_a_stop_was_asked_for_is_not_started_again(
    train_step: Train, plane: FakeControlPlane, tmp_path: Path, command: Command
) -> None:
    plane.command = command
    assert train_step("die") == "stopped"
    assert states(plane) == ["lost"]
    assert lives(tmp_path) == 1


def test_a_failed_result_is_final(train_step: Train, tmp_path: Path) -> None:
    with pytest.raises(WindlassError, match="the loss is not a number"):
        train_step("fail")
    assert lives(tmp_path) == 1


def test_a_trainer_that_hangs_beyond_the_job_s_duration_is_ended(
    train_step: Train, plane: FakeControlPlane, tmp_path: Path
) -> None:
    with pytest.raises(WindlassError, match="maximum duration"):
        train_step("stubborn", hang_grace=-6.0)
    record = ProcessRecord.load(tmp_path / "workspace" / "trainer.json")
    assert record is not None
    assert processes.members(record) == []
    assert "live" not in states(plane)
    assert lives(tmp_path) == 1


def test_a_run_whose_token_is_revoked_stops(train_step: Train, plane: FakeControlPlane, tmp_path: Path) -> None:
    def revoke(path: str) -> bool:
        if path.endswith("/reports"):
            plane.token = "revoked"
        return False

    plane.drop_replies = revoke
    assert train_step("hang") == "stopped"
    assert lives(tmp_path) == 1


def test_a_run_whose_ray_is_gone_is_lost_and_starts_no_trainer(
    train_step: Train, plane: FakeControlPlane, tmp_path: Path
) -> None:
    plane.lose_ray()
    with pytest.raises(RunLostError, match="is gone"):
        train_step("ok")
    assert not (tmp_path / "workspace" / "lives").exists()
    assert read_notes(tmp_path / "workspace")["train"].outcome == "lost"
    assert plane.state.steps["train"] == {"state": "failed", "message": f"Ray at {plane.ray_address} is gone"}


@pytest.mark.parametrize("behaviour", ["die-late", "stubborn"])
def test_a_trainer_that_dies_or_hangs_when_its_ray_is_gone_has_no_second_life(
    train_step: Train, plane: FakeControlPlane, tmp_path: Path, behaviour: str
) -> None:
    def lose(path: str) -> bool:
        if path.endswith("/reports"):
            plane.lose_ray()
        return False

    plane.drop_replies = lose
    with pytest.raises(RunLostError, match="is gone"):
        train_step(behaviour)
    assert lives(tmp_path) == 1
    assert states(plane) == ["lost"]
    record = ProcessRecord.load(tmp_path / "workspace" / "trainer.json")
    assert record is not None
    assert processes.members(record) == []


def test_a_result_that_came_before_ray_was_gone_counts(train_step: Train, plane: FakeControlPlane) -> None:
    def lose(path: str) -> bool:
        if path.endswith("/reports"):
            plane.lose_ray()
        return False

    plane.drop_replies = lose
    assert train_step("ok") == "succeeded"
