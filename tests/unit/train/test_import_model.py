"""What may become a base model, and what is refused with which words."""

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.factories.tiny_models import tiny_chat_model, tiny_encoder

from windlass.domain.errors import InvalidError
from windlass.runtime.artifacts import read_manifest, verify
from windlass_pipelines.train.import_model import import_model, main


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sources")
    return {"encoder": tiny_encoder(root / "encoder"), "chat": tiny_chat_model(root / "chat")}


@pytest.fixture
def source(sources: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    shutil.copytree(sources["encoder"], folder)
    return folder


@pytest.fixture
def chat_source(sources: dict[str, Path], tmp_path: Path) -> Path:
    folder = tmp_path / "chat-source"
    shutil.copytree(sources["chat"], folder)
    return folder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_an_encoder_and_a_chat_model_are_taken_and_described(source: Path, chat_source: Path, tmp_path: Path) -> None:
    (source / "README.md").write_text("about")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling/config.json").write_text("{}")
    target = tmp_path / "models/encoder"
    described = import_model(source, target)
    weights = load_file(source / "model.safetensors")
    assert described == {
        "tasks": ["text-classification"],
        "parameters": sum(weight.numel() for weight in weights.values()),
    }
    verify(target, read_manifest(target))
    assert {path.name for path in target.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json")
    }
    assert import_model(chat_source, tmp_path / "models/chat")["tasks"] == ["chat"]
    assert (tmp_path / "models/chat/chat_template.jinja").exists()
    assert import_model(source, target) == described, "a second time finds what is there"


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def code_deeper_down(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a/evil.so").write_bytes(b"x")


def pickled_as(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Canary(folder.parent / "canary")))


def zipped_as(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(Canary(folder.parent / "canary")))

    return write


def torch_saved(folder: Path) -> None:
    torch.save({"w": torch.ones(1)}, folder / "model.safetensors")


def with_huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-8])


def other_weights(folder: Path) -> None:
    save_file({"something.else": torch.ones(3, 3)}, folder / "model.safetensors")


def other_shapes(folder: Path) -> None:
    edit(folder / "config.json", hidden_size=32)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle beside it": (pickled_as("pytorch_model.bin"), "can carry code"),
    "a pickle of another name": (pickled_as("notes.txt"), "a pickle"),
    "a pickle as safetensors": (pickled_as("model.safetensors"), "not a safetensors file"),
    "a zip with a pickle": (zipped_as("extra.data"), "zip archive"),
    "torch.save as safetensors": (torch_saved, "zip archive"),
    "a header without end": (with_huge_header, "not a safetensors file"),
    "a cut file": (cut, "not a safetensors file"),
    "weights of something else": (other_weights, "do not hold the weights"),
    "shapes that do not fit": (other_shapes, "has shape"),
    "Python code": (lambda f: (f / "modeling_evil.py").write_text("x = 1"), "can carry code"),
    "code deeper down": (code_deeper_down, "can carry code"),
    "auto_map": (lambda f: edit(f / "config.json", auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    "nested auto_map": (lambda f: edit(f / "config.json", text_config={"auto_map": {"A": "b"}}), "auto_map"),
    "auto_map of the tokenizer": (lambda f: edit(f / "tokenizer_config.json", auto_map={"A": "b"}), "auto_map"),
    "trust in the configuration": (lambda f: edit(f / "config.json", trust_remote_code=True), "trust_remote_code"),
    "an unknown architecture": (lambda f: edit(f / "config.json", model_type="evil"), "config.json"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no fast tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "only safetensors and GGUF"),
    "a broken configuration": (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    "a bottomless configuration": (lambda f: (f / "config.json").write_text("[" * 100_000), "not JSON"),
    "a link": (lambda f: (f / "vocab.txt").symlink_to("/etc/passwd"), "link"),
    "two GGUF files": (lambda f: [(f / f"{n}.gguf").write_bytes(b"GGUF") for n in "ab"], "2 GGUF files"),
    "a GGUF file that is none": (lambda f: (f / "a.gguf").write_bytes(b"PK\x03\x04"), "not a GGUF file"),
    "a GGUF file that is cut": (lambda f: (f / "a.gguf").write_bytes(b"GGUF\x03\0\0\0"), "cannot be read as a GGUF"),
    "quantised weights": (
        lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "quantised",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_its_reason_and_nothing_is_left(source: Path, tmp_path: Path, case: str) -> None:
    spoil, words = REFUSED[case]
    spoil(source)
    target = tmp_path / "models/target"
    with pytest.raises(InvalidError, match=words):
        import_model(source, target)
    assert not list(tmp_path.glob("models/*"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "no chat template"),
        ("{{ ''.__class__.__mro__ }}", "refuses|told apart"),
        ("x" * 70_000, "longer than"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes longer"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(
    chat_source: Path, tmp_path: Path, template: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass_pipelines.train.import_model._PROBE_SECONDS", 1)
    path = chat_source / "chat_template.jinja"
    path.unlink() if template is None else path.write_text(template)
    with pytest.raises(InvalidError, match=words):
        import_model(chat_source, tmp_path / "target")


def test_a_folder_with_too_many_files_is_refused(source: Path, tmp_path: Path) -> None:
    for number in range(1001):
        (source / f"{number}.md").touch()
    with pytest.raises(InvalidError, match="more than 1000 entries"):
        import_model(source, tmp_path / "target")


def test_the_command_writes_its_result_and_says_no_by_its_exit_code(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[Any] = []
    monkeypatch.setattr("resource.setrlimit", lambda *given: limits.append(given))  # they would bind the test run
    result = tmp_path / "result.json"
    assert main([str(source), str(tmp_path / "target"), "--result", str(result)]) == 0
    assert json.loads(result.read_bytes())["tasks"] == ["text-classification"]
    assert json.loads(capsys.readouterr().out)["parameters"] > 0
    assert len(limits) == 2
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "other"), "--result", str(result)]) == 1
    assert "neither a folder nor a file" in json.loads(result.read_bytes())["refused"]
