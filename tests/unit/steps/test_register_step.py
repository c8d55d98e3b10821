"""What the register step lets through: exactly the files that the trainer reported, in the place it was given."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.runs import run_context, step_settings

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import ChecksumMismatchError, ConflictError, NotFoundError, WindlassError
from windlass.domain.reports import Outcome, ResultItem
from windlass.runtime.artifacts import seal
from windlass_pipelines.steps.register import artifact_of, register, verify_artifact

MODEL = "artifacts/job/1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / MODEL
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "deep" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with FakeControlPlane() as plane:
        yield plane


def result(manifest: Manifest | None, prefix: str | None = MODEL, outcome: Outcome = Outcome.SUCCEEDED) -> ResultItem:
    return ResultItem(outcome=outcome, artifact_prefix=prefix, manifest=manifest, time=datetime.now(UTC))


def test_an_untouched_artifact_passes(folder: Path) -> None:
    verify_artifact(folder, seal(folder))


def _grow(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights!")


def _flip(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weighty")


def _remove(folder: Path) -> None:
    (folder / "deep" / "config.json").unlink()


def _add(folder: Path) -> None:
    (folder / "deep" / "pytorch_model.bin").write_bytes(b"pickle")


def _link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def _rewrite_manifest(folder: Path) -> None:
    _grow(folder)
    seal(folder)


def _lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "word"),
    [
        (_grow, ChecksumMismatchError, "model.safetensors"),
        (_flip, ChecksumMismatchError, "model.safetensors"),
        (_remove, ChecksumMismatchError, "deep/config.json is missing"),
        (_add, ChecksumMismatchError, "deep/pytorch_model.bin is not in the manifest"),
        (_link, ChecksumMismatchError, "is a link"),
        (_rewrite_manifest, ChecksumMismatchError, "not the one that the trainer reported"),
        (_lose_manifest, NotFoundError, "never committed"),
    ],
)
def test_a_damaged_artifact_is_refused_with_the_name_of_what_differs(
    folder: Path, damage: Callable[[Path], None], error: type[WindlassError], word: str
) -> None:
    manifest = seal(folder)
    damage(folder)
    with pytest.raises(error, match=word):
        verify_artifact(folder, manifest)


@pytest.mark.parametrize("prefix", ["artifacts/other/1", "artifacts/job/../other", "artifacts/job", "/etc", None])
def test_an_artifact_outside_of_the_run_s_prefix_is_refused(
    plane: FakeControlPlane, tmp_path: Path, prefix: str | None
) -> None:
    with pytest.raises(ConflictError):
        artifact_of(run_context(plane, tmp_path), result(Manifest(files={}), prefix))


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.FAILED])
def test_a_run_without_a_good_result_registers_nothing(
    plane: FakeControlPlane, tmp_path: Path, outcome: Outcome
) -> None:
    context = run_context(plane, tmp_path)
    for found in (None, result(Manifest(files={}), outcome=outcome), result(None)):
        with pytest.raises(ConflictError):
            artifact_of(context, found)


def _environment(plane: FakeControlPlane, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = run_context(plane, root)
    context.workspace.mkdir()
    context.write(root / "context.json")
    monkeypatch.setenv("WINDLASS_RUN_CONTEXT", str(root / "context.json"))
    monkeypatch.setenv("WINDLASS_STEP_SETTINGS", json.dumps(step_settings("ok", patience=5)))


def test_the_step_asks_for_registration_after_it_verified(
    plane: FakeControlPlane, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(plane, tmp_path, monkeypatch)
    plane.state.result = result(seal(folder))
    plane.decision = "rejected"
    assert register() == "rejected"
    assert plane.state.steps["register"]["state"] == "succeeded"


def test_the_step_registers_nothing_that_differs(
    plane: FakeControlPlane, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(plane, tmp_path, monkeypatch)
    plane.state.result = result(seal(folder))
    _flip(folder)
    with pytest.raises(ChecksumMismatchError):
        register()
    assert plane.state.registered is None
    assert "model.safetensors" in plane.state.steps["register"]["message"]


def test_a_lost_reply_does_not_register_twice(
    plane: FakeControlPlane, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(plane, tmp_path, monkeypatch)
    plane.state.result = result(seal(folder))
    asked = f"/internal/v1/runs/{plane.run}/register"
    dropped: list[str] = []

    def drop_first(path: str) -> bool:
        if path == asked and not dropped:
            dropped.append(path)
            return True
        return False

    plane.drop_replies = drop_first
    assert register() == "candidate"
    assert len([o for o in plane.operations if o.path == asked]) == 2
