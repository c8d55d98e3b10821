"""Nothing is loaded that is not exactly what was registered, and nothing that could run."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.serve.tiny_artifacts import LABELS, MAX_LENGTH, seal

from windlass.domain.errors import ChecksumMismatchError, InvalidError, NotFoundError, UnavailableError
from windlass.domain.specs import Task
from windlass_pipelines.serve.artifact import ModelLoadError, admit, check_manifest, read_card, verify
from windlass_pipelines.serve.loading import available_memory, check_memory, load


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (_touch, (str(self.path),))


def _touch(path: str) -> None:
    Path(path).touch()


@pytest.fixture
def folder(classifier_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier_folder, tmp_path / "artifact"))


def test_what_the_trainer_wrote_passes(folder: Path) -> None:
    assert "model.safetensors" in verify(folder, seal(folder)).files


def test_another_digest_is_refused_without_hashing(folder: Path) -> None:
    with pytest.raises(ChecksumMismatchError, match="was to be served"):
        check_manifest(folder, "0" * 64)


def test_a_flipped_bit_in_the_weights_is_refused(folder: Path) -> None:
    digest = seal(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ChecksumMismatchError, match=r"model\.safetensors"):
        verify(folder, digest)


def test_a_missing_file_is_refused(folder: Path) -> None:
    digest = seal(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ChecksumMismatchError, match=r"lacks tokenizer\.json"):
        verify(folder, digest)


def test_a_file_that_nobody_registered_is_refused(folder: Path) -> None:
    digest = seal(folder)
    (folder / "extra.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ChecksumMismatchError, match=r"extra\.json"):
        verify(folder, digest)


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        check_manifest(tmp_path, "0" * 64)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "x/optimizer.pth", "modeling_custom.py", "a.PKL"])
def test_files_that_could_run_are_refused_by_name(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(InvalidError, match="only safetensors"):
        check_manifest(folder, seal(folder))


def test_a_pickle_named_safetensors_is_refused_and_never_unpickled(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ModelLoadError, match="named safetensors"):
        admit(folder, seal(folder), Task.TEXT_CLASSIFICATION)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_configurations_that_name_code_are_refused(folder: Path, name: str) -> None:
    config = json.loads((folder / name).read_bytes())
    config["nested"] = [{"auto_map": {"AutoModel": "modeling.Evil"}}]
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidError, match="auto_map"):
        verify(folder, seal(folder))


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidError, match="not a plain file"):
        verify(folder, seal(folder))


def test_the_card_tells_labels_and_length(folder: Path) -> None:
    card = read_card(folder, Task.TEXT_CLASSIFICATION)
    assert (card.labels, card.max_length) == (LABELS, MAX_LENGTH)


def test_an_artifact_of_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidError, match="for text-classification, it cannot serve chat"):
        read_card(folder, Task.CHAT)


def test_weights_that_the_file_lacks_are_not_made_up(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="lacks weights"):
        load(folder, admit(folder, seal(folder), Task.TEXT_CLASSIFICATION), threads=1)


def test_a_model_that_does_not_fit_says_how_much_is_missing() -> None:
    with pytest.raises(UnavailableError, match="needs 1128 MiB, 1000 MiB are free"):
        check_memory(1000 * 2**20, 1000 * 2**20)


def test_the_tighter_of_machine_and_cgroup_counts(tmp_path: Path) -> None:
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
