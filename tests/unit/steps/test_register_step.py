"""The register step accepts exactly the files that the trainer reported, without code."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.factories.local_runs import spec
from tests.factories.published_artifacts import damage_weights, publish_model, result_item
from tests.factories.run_contexts import run_context, run_environment

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import ChecksumMismatchError, ConflictError, InvalidError, NotFoundError, WindlassError
from windlass.domain.jobs import JobState
from windlass.domain.reports import Command, ResultItem, ResultStatus
from windlass.runtime.artifacts import read_manifest, seal
from windlass.runtime.context import RunEnvironment
from windlass.storage.file_transfer import FileTransfer
from windlass.wire.runs import RunStatusOut
from windlass_pipelines.steps.register import verify_artifact

SPEC = spec()


@pytest.fixture
def environment(tmp_path: Path) -> RunEnvironment:
    return run_environment(tmp_path, run_context(tmp_path, SPEC))


@pytest.fixture
def folder(environment: RunEnvironment) -> Path:
    return publish_model(environment)


def status(reported: ResultItem | None) -> RunStatusOut:
    return RunStatusOut(job="job_1", state=JobState.RUNNING, command=Command.CONTINUE, attempt=1, result=reported)


def test_an_unchanged_artifact_is_accepted(environment: RunEnvironment, folder: Path) -> None:
    manifest = read_manifest(folder)
    assert verify_artifact(environment, status(result_item(manifest)), FileTransfer()) == manifest


def _grow(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"longer than before")


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
        (damage_weights, ChecksumMismatchError, "model.safetensors"),
        (_remove, ChecksumMismatchError, "deep/config.json is missing"),
        (_add, ChecksumMismatchError, "deep/pytorch_model.bin is not in the manifest"),
        (_link, ChecksumMismatchError, "is not a regular file"),
        (_rewrite_manifest, ChecksumMismatchError, "the manifest of 1 has digest"),
        (_lose_manifest, NotFoundError, "no folder is published"),
    ],
)
def test_a_damaged_artifact_is_rejected_with_the_name_of_the_file(
    environment: RunEnvironment,
    folder: Path,
    damage: Callable[[Path], None],
    error: type[WindlassError],
    word: str,
) -> None:
    manifest = read_manifest(folder)
    damage(folder)
    with pytest.raises(error, match=word):
        verify_artifact(environment, status(result_item(manifest)), FileTransfer())


def test_an_artifact_that_contains_code_is_rejected(environment: RunEnvironment, folder: Path) -> None:
    (folder / "deep" / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(InvalidError, match="auto_map"):
        verify_artifact(environment, status(result_item(seal(folder))), FileTransfer())


@pytest.mark.parametrize("outcome", [ResultStatus.STOPPED, ResultStatus.FAILED])
def test_a_run_without_a_succeeded_result_registers_nothing(environment: RunEnvironment, outcome: ResultStatus) -> None:
    for reported in (None, result_item(Manifest(files={}), outcome=outcome), result_item(None)):
        with pytest.raises(ConflictError):
            verify_artifact(environment, status(reported), FileTransfer())
