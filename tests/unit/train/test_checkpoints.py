"""Checkpoints: whole or ignored, the newest two kept, none removed that the control plane needs."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.factories.training_runs import job_spec
from tests.fakes.voice import RecordingVoice
from tests.unit.train.conftest import Attempt, MakeRun

from windlass.domain.reports import CheckpointItem, ResumePoint
from windlass.runtime.artifacts import seal
from windlass_pipelines.train import checkpoints as module
from windlass_pipelines.train.checkpoints import MARKER, Checkpoints, Progress, Snapshot


def snapshot(step: int) -> Snapshot:
    return Snapshot(Progress(step=step), {"w": torch.full((2,), float(step))}, {"exp_avg/w": torch.ones(2)}, None)


def point(item: CheckpointItem) -> ResumePoint:
    return ResumePoint(step=item.step, prefix=item.prefix, manifest=item.manifest)


def steps(root: Path) -> list[int]:
    return sorted(int(marker.parent.name) for marker in root.glob(f"c/*/*/{MARKER}"))


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


def cut_weights(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 20)


def change_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def uncommit(folder: Path) -> None:
    (folder / MARKER).unlink()


@pytest.mark.parametrize("damage", [damage_manifest, cut_weights, change_weights, uncommit])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = Checkpoints(tmp_path, "c", 1, "job")
    store.save(snapshot(10), {})
    newest = store.save(snapshot(20), {})
    assert store.load(point(newest)).progress.step == 20  # type: ignore[union-attr]  # None would fail the test too
    damage(tmp_path / newest.prefix)
    found = Checkpoints(tmp_path, "c", 2, "job").load(point(newest))
    assert found is not None
    assert found.progress.step == 10
    assert found.weights["w"].tolist() == [10.0, 10.0]


def test_a_checkpoint_that_is_gone_and_the_only_one_means_from_the_start(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, "c", 1, "job")
    item = store.save(snapshot(10), {})
    uncommit(tmp_path / item.prefix)
    assert store.load(point(item)) is None
    assert store.load(None) is None


def test_what_the_control_plane_never_heard_of_is_found_on_the_disk(tmp_path: Path) -> None:
    first, second = Checkpoints(tmp_path, "c", 1, "job"), Checkpoints(tmp_path, "c", 2, "job")
    heard = first.save(snapshot(10), {})
    first.save(snapshot(20), {})
    assert found_step(second, None) == 20
    assert found_step(second, point(heard)) == 20
    assert found_step(second, point(heard), at_most=19) == 10
    assert found_step(Checkpoints(tmp_path, "c", 2, "another job"), None) is None


def found_step(store: Checkpoints, resume: ResumePoint | None, at_most: int | None = None) -> int | None:
    found = store.load(resume, at_most=at_most)
    return None if found is None else found.progress.step


def test_a_checkpoint_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    item = Checkpoints(tmp_path, "c", 1, "this job").save(snapshot(10), {})
    assert Checkpoints(tmp_path, "c", 2, "another job").load(point(item)) is None


def test_a_half_written_checkpoint_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "seal", full)
    with pytest.raises(OSError, match="space"):
        Checkpoints(tmp_path, "c", 1, "job").save(snapshot(10), {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_newest_two_are_kept_over_all_attempts(tmp_path: Path) -> None:
    for attempt, step in ((1, 10), (1, 20), (2, 30), (2, 40)):
        store = Checkpoints(tmp_path, "c", attempt, "job")
        store.save(snapshot(step), {})
        store.prune(safe_step=step)
    assert steps(tmp_path) == [30, 40]


def test_what_the_control_plane_would_resume_from_is_never_removed(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, "c", 1, "job")
    for step in (10, 20, 30, 40):
        store.save(snapshot(step), {})
        store.prune(safe_step=10)
    assert 10 in steps(tmp_path)
    store.prune(safe_step=40)
    assert steps(tmp_path) == [30, 40]


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    run_for: MakeRun, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]
    real = seal

    def sometimes(folder: Path) -> object:
        if failures:
            raise failures.pop()
        return real(folder)

    monkeypatch.setattr(module, "seal", sometimes)
    voice = RecordingVoice()
    training = {"max_steps": 6, "batch_size": 8, "checkpoint_every_steps": 2}
    ended = attempt(run_for(job_spec(training=training)), voice)
    assert ended.manifest is not None
    assert [item.step for item in voice.checkpoints] == [4, 6]
    assert "checkpoint_failed" in voice.codes()
