"""Checkpoints: damaged ones are skipped, the newest two are kept, so is the one that the control plane needs."""

import errno
import itertools
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.factories.processes import is_killed_at
from tests.factories.run_contexts import run_locations
from tests.factories.training_runs import job_spec, store_folder
from tests.fakes.recording_reporter import RecordingReporter
from tests.unit.train.conftest import Attempt, MakeRun

from windlass.domain.errors import UnavailableError
from windlass.domain.reports import CheckpointItem, CheckpointPrunedItem, PhasesItem, ResumePoint
from windlass.runtime.artifacts import seal
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train.checkpoints import BestEvaluation, CheckpointStore, TrainingProgress, TrainingState


def snapshot(step: int) -> TrainingState:
    return TrainingState(
        TrainingProgress(step=step), {"w": torch.full((2,), float(step))}, {"exp_avg/w": torch.ones(2)}, None
    )


def checkpoints_of(root: Path, attempt: int = 1, fingerprint: str = "job") -> CheckpointStore:
    work = root / "work" / str(attempt)
    return CheckpointStore(FileTransfer(), run_locations(root), work, work / "inputs", attempt, fingerprint)


def point(item: CheckpointItem, attempt: int = 1) -> ResumePoint:
    return ResumePoint(attempt=attempt, step=item.step, manifest=item.manifest)


def folder_of(root: Path, item: CheckpointItem, attempt: int = 1) -> Path:
    return root / "checkpoints" / str(attempt) / str(item.step)


def steps(root: Path) -> list[int]:
    return sorted(int(manifest.parent.name) for manifest in root.glob("checkpoints/*/*/manifest.json"))


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


def cut_weights(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 20)


def change_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def unpublish(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [damage_manifest, cut_weights, change_weights, unpublish])
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = checkpoints_of(tmp_path, 1)
    store.save(snapshot(10), {})
    newest = store.save(snapshot(20), {})
    assert store.load(point(newest)).progress.step == 20  # type: ignore[union-attr]  # None would fail the test too
    damage(folder_of(tmp_path, newest))
    loaded = checkpoints_of(tmp_path, 2).load(point(newest))
    assert loaded is not None
    assert loaded.progress.step == 10
    assert loaded.weights["w"].tolist() == [10.0, 10.0]


def test_a_checkpoint_that_cannot_be_read_now_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints_of(tmp_path, 1).save(snapshot(10), {})

    def fail(*_: object) -> None:
        raise UnavailableError("the object store is unreachable")

    monkeypatch.setattr(FileTransfer, "fetch", fail)
    with pytest.raises(UnavailableError):
        checkpoints_of(tmp_path, 2).load(None)


def test_a_valid_checkpoint_that_is_not_the_reported_one_is_skipped(tmp_path: Path) -> None:
    reported, other = checkpoints_of(tmp_path / "store", 1), checkpoints_of(tmp_path / "other", 1)
    reported.save(snapshot(10), {})
    newest = reported.save(snapshot(20), {})
    state = snapshot(20)
    state.progress.trained_seconds += 1
    folder = folder_of(tmp_path / "store", newest)
    shutil.rmtree(folder)
    folder_of(tmp_path / "other", other.save(state, {})).rename(folder)
    loaded = checkpoints_of(tmp_path / "store", 2).load(point(newest))
    assert loaded is not None
    assert loaded.progress.step == 10


def test_load_returns_none_without_a_valid_checkpoint(tmp_path: Path) -> None:
    store = checkpoints_of(tmp_path, 1)
    item = store.save(snapshot(10), {})
    unpublish(folder_of(tmp_path, item))
    assert store.load(point(item)) is None
    assert store.load(None) is None


def test_a_checkpoint_that_was_never_reported_is_loaded_from_disk(tmp_path: Path) -> None:
    first, second = checkpoints_of(tmp_path, 1), checkpoints_of(tmp_path, 2)
    heard = first.save(snapshot(10), {})
    first.save(snapshot(20), {})
    assert found_step(second, None) == 20
    assert found_step(second, point(heard)) == 20
    assert found_step(second, point(heard), max_step=20) == 20
    assert found_step(second, point(heard), max_step=19) == 10
    assert found_step(checkpoints_of(tmp_path, 2, "another job"), None) is None


def found_step(store: CheckpointStore, resume: ResumePoint | None, max_step: int | None = None) -> int | None:
    loaded = store.load(resume, max_step=max_step)
    return None if loaded is None else loaded.progress.step


def test_the_weights_of_the_best_evaluation_are_kept_with_it(tmp_path: Path) -> None:
    state, best = snapshot(10), BestEvaluation(step=5, score=0.9, loss=0.3)
    state.progress.best = best
    item = checkpoints_of(tmp_path, 1).save(replace(state, best={"w": torch.full((2,), 5.0)}), {})
    loaded = checkpoints_of(tmp_path, 2).load(point(item))
    assert loaded is not None
    assert loaded.best is not None
    assert (loaded.progress.best, loaded.best["w"].tolist()) == (best, [5.0, 5.0])
    assert loaded.weights["w"].tolist() == [10.0, 10.0]


@pytest.mark.parametrize(
    ("score", "loss", "is_better"),
    [
        (0.8, 0.9, True),
        (0.6, 0.1, False),
        (0.7, 0.4, True),
        (0.7, 0.5, False),
        (0.7, 0.6, False),
        (math.nan, 0.1, False),
        (0.8, math.nan, False),
    ],
)
def test_evaluations_compare_by_score_and_then_by_loss(score: float, loss: float, is_better: bool) -> None:
    evaluation, other = BestEvaluation(step=2, score=score, loss=loss), BestEvaluation(step=1, score=0.7, loss=0.5)
    assert evaluation.is_better_than(other) == is_better
    assert evaluation.is_better_than(None) == (not math.isnan(score + loss))


@pytest.mark.parametrize("place", ["x/20", "1/x", "x/x"])
def test_a_folder_at_another_place_is_no_checkpoint(tmp_path: Path, place: str) -> None:
    store = checkpoints_of(tmp_path, 1)
    item = store.save(snapshot(10), {})
    shutil.copytree(folder_of(tmp_path, item), tmp_path / "checkpoints" / place)
    state = store.load(point(item))
    assert state is not None
    assert state.progress.step == 10


def test_a_checkpoint_of_other_settings_is_ignored(tmp_path: Path) -> None:
    item = checkpoints_of(tmp_path, 1, "this job").save(snapshot(10), {})
    assert checkpoints_of(tmp_path, 2, "another job").load(point(item)) is None


def test_a_failed_checkpoint_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("windlass.storage.file_transfer.seal", full)
    with pytest.raises(OSError, match="space"):
        checkpoints_of(tmp_path, 1).save(snapshot(10), {})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def prune(store: CheckpointStore, *, safe_step: int) -> None:
    for ref in store.obsolete(safe_step=safe_step):
        store.delete(ref)


def test_the_newest_two_are_kept_over_all_attempts(tmp_path: Path) -> None:
    for attempt, step in ((1, 10), (1, 20), (2, 30), (2, 40)):
        store = checkpoints_of(tmp_path, attempt)
        store.save(snapshot(step), {})
        prune(store, safe_step=step)
    assert steps(tmp_path) == [30, 40]


def test_checkpoints_that_are_not_acknowledged_yet_count_among_the_newest_two(tmp_path: Path) -> None:
    store = checkpoints_of(tmp_path, 1)
    for step in (10, 20, 30, 40):
        store.save(snapshot(step), {})
    prune(store, safe_step=20)
    assert steps(tmp_path) == [20, 30, 40]


def test_prune_keeps_the_checkpoint_that_the_control_plane_resumes_from(tmp_path: Path) -> None:
    store = checkpoints_of(tmp_path, 1)
    for step in (10, 20, 30, 40):
        store.save(snapshot(step), {})
        prune(store, safe_step=10)
    assert 10 in steps(tmp_path)
    prune(store, safe_step=40)
    assert steps(tmp_path) == [30, 40]


def test_training_continues_when_a_checkpoint_fails_on_a_full_disk(
    run_for: MakeRun, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]
    real = seal

    def sometimes(folder: Path) -> object:
        if failures:
            raise failures.pop()
        return real(folder)

    monkeypatch.setattr("windlass.storage.file_transfer.seal", sometimes)
    reporter = RecordingReporter()
    training = {"max_steps": 6, "batch_size": 8, "checkpoint_every_steps": 2}
    result = attempt(run_for(job_spec(training=training)), reporter)
    assert result.manifest is not None
    assert [item.step for item in reporter.checkpoints] == [4, 6]
    assert "checkpoint_failed" in reporter.codes()


class NoReplyToDeletions(RecordingReporter):
    """Acknowledges what was reported before the first deletion."""

    @property
    def acknowledged(self) -> int:
        return len(self.items) if not self.pruned else self.before_deletion

    def put(self, item: CheckpointItem | CheckpointPrunedItem | PhasesItem) -> int:
        ordinal = super().put(item)
        if len(self.pruned) == 1 and item is self.pruned[0]:
            self.before_deletion = ordinal - 1
        return ordinal


@pytest.mark.parametrize(
    ("reporter", "kept"), [(RecordingReporter(), [8, 10]), (NoReplyToDeletions(), [2, 4, 6, 8, 10])]
)
def test_files_of_a_checkpoint_are_deleted_after_the_report_that_hides_it_is_acknowledged(
    run_for: MakeRun, attempt: Attempt, reporter: RecordingReporter, kept: list[int]
) -> None:
    run = run_for(job_spec(training={"max_steps": 10, "batch_size": 8, "checkpoint_every_steps": 2}))
    assert attempt(run, reporter).manifest is not None
    assert [item.step for item in reporter.checkpoints] == [2, 4, 6, 8, 10]
    assert [item.step for item in reporter.pruned][:1] == [2]
    assert steps(store_folder(run)) == kept


_FILE_SYSTEM_EVENTS = frozenset({"open", "os.mkdir", "os.rename"})


def save_and_die(root: Path, kill_at: int) -> bool:
    """Save step 20 in a child that is killed at its n-th access to the file system; return whether it was killed."""
    return is_killed_at(_FILE_SYSTEM_EVENTS, kill_at, lambda: checkpoints_of(root, 2).save(snapshot(20), {}))


@pytest.mark.processes
def test_a_trainer_killed_at_any_point_of_a_save_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    resumed = []
    for kill_at in itertools.count(1):
        root = tmp_path / str(kill_at)
        checkpoints_of(root, 1).save(snapshot(10), {})
        killed = save_and_die(root, kill_at)
        loaded = checkpoints_of(root, 3).load(None)
        assert loaded is not None
        assert loaded.weights["w"].tolist() == [float(loaded.progress.step)] * 2
        resumed.append(loaded.progress.step)
        if not killed:
            break
    assert len(resumed) > 8, "the child was killed at several points"
    assert resumed == sorted(resumed)
    assert (resumed[0], resumed[-1]) == (10, 20)
