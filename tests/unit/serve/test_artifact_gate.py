"""Artifact verification rejects every deviation from the manifest and every file that can contain code."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.serve.tiny_artifacts import LABELS, MAX_LENGTH, seal

from windlass.domain.errors import ChecksumMismatchError, InvalidError, NotFoundError, UnavailableError
from windlass.domain.specs import Task
from windlass.runtime.artifacts import read_manifest
from windlass_pipelines.serve.artifact import (
    ModelLoadError,
    check_manifest,
    load_verified_metadata,
    read_metadata,
    verify_safe,
)
from windlass_pipelines.serve.loading import available_memory, check_memory, load


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (_touch, (str(self.path),))


def _touch(path: str) -> None:
    Path(path).touch()


@pytest.fixture
def folder(classifier_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier_folder, tmp_path / "artifact"))


def test_a_trained_artifact_passes_verification(folder: Path) -> None:
    assert "model.safetensors" in verify_safe(folder, seal(folder)).files


def test_another_manifest_digest_is_rejected_without_hashing(folder: Path) -> None:
    with pytest.raises(ChecksumMismatchError, match="expected 0000"):
        check_manifest(read_manifest(folder), "0" * 64)


def test_a_flipped_bit_in_the_weights_is_rejected(folder: Path) -> None:
    digest = seal(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ChecksumMismatchError, match=r"model\.safetensors"):
        verify_safe(folder, digest)


def test_a_missing_file_is_refused(folder: Path) -> None:
    digest = seal(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ChecksumMismatchError, match=r"tokenizer\.json is missing"):
        verify_safe(folder, digest)


def test_a_file_outside_the_manifest_is_rejected(folder: Path) -> None:
    digest = seal(folder)
    (folder / "extra.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ChecksumMismatchError, match=r"extra\.json"):
        verify_safe(folder, digest)


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_safe(tmp_path, "0" * 64)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x/optimizer.pth", "modeling_custom.py", "a.PKL"])
def test_files_that_can_contain_code_are_rejected_by_suffix(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    digest = seal(folder)
    with pytest.raises(InvalidError, match="can contain code"):
        check_manifest(read_manifest(folder), digest)


def test_a_pickle_with_a_safetensors_suffix_is_rejected_and_not_unpickled(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ModelLoadError, match="not a safetensors file"):
        load_verified_metadata(folder, seal(folder), Task.TEXT_CLASSIFICATION)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_configurations_that_refer_to_code_are_rejected(folder: Path, name: str) -> None:
    config = json.loads((folder / name).read_bytes())
    config["nested"] = [{"auto_map": {"AutoModel": "modeling.Evil"}}]
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidError, match="auto_map"):
        verify_safe(folder, seal(folder))


def test_a_symlink_is_rejected(folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(ChecksumMismatchError, match="not a regular file"):
        verify_safe(folder, seal(folder))


def test_the_metadata_has_labels_and_maximum_length(folder: Path) -> None:
    metadata = read_metadata(folder, Task.TEXT_CLASSIFICATION)
    assert (metadata.labels, metadata.max_length) == (LABELS, MAX_LENGTH)


def test_an_artifact_of_another_format_is_rejected(folder: Path) -> None:
    metadata = json.loads((folder / "windlass.json").read_bytes())
    (folder / "windlass.json").write_text(json.dumps(metadata | {"format": 2}), encoding="utf-8")
    with pytest.raises(InvalidError, match=r"windlass\.json of the artifact has format 2, this server reads 1"):
        read_metadata(folder, Task.TEXT_CLASSIFICATION)


def test_an_artifact_of_another_task_is_rejected(folder: Path) -> None:
    with pytest.raises(InvalidError, match="for text-classification, it cannot serve chat"):
        read_metadata(folder, Task.CHAT)


def test_an_artifact_with_missing_weights_is_not_loaded(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="lacks weights"):
        load(folder, load_verified_metadata(folder, seal(folder), Task.TEXT_CLASSIFICATION), threads=1)


def test_the_memory_error_has_the_needed_and_free_sizes() -> None:
    with pytest.raises(UnavailableError, match="needs 1128 MiB, 1000 MiB are free"):
        check_memory(1000 * 2**20, 1000 * 2**20)


def test_available_memory_is_the_minimum_of_machine_and_cgroup(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000 kB\n", encoding="ascii")
    assert available_memory(tmp_path) == 1_024_000
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("100\n", encoding="ascii")
    (group / "memory.max").write_text("max\n", encoding="ascii")
    assert available_memory(tmp_path) == 1_024_000
    (group / "memory.max").write_text("5100\n", encoding="ascii")
    assert available_memory(tmp_path) == 5000
