"""Import of base models: accepted sources, and refused ones with their messages."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.factories.tiny_models import tiny_chat_model, tiny_encoder
from transformers import RobertaConfig, RobertaModel

from windlass.domain.artifacts import sha256_file
from windlass.domain.datasets import tokenizer_label
from windlass.domain.errors import InvalidError
from windlass.domain.models import ImportedModel, ImportRequest, ModelSourceFile
from windlass.domain.specs import Task
from windlass.runtime.artifacts import verify
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train.import_model import import_model, main
from windlass_pipelines.train.models import max_positions


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


def test_an_encoder_and_a_chat_model_are_imported_and_described(
    source: Path, chat_source: Path, tmp_path: Path
) -> None:
    (source / "README.md").write_text("about")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling/config.json").write_text("{}")
    target = tmp_path / "models/encoder"
    imported = import_into(source, target)
    weights = load_file(source / "model.safetensors")
    manifest = verify(target)
    assert imported == ImportedModel(
        tasks=(Task.TEXT_CLASSIFICATION,),
        parameters=sum(weight.numel() for weight in weights.values()),
        max_positions=64,
        activations_per_token=2 * (16 + 16 + 16 + 32),
        tokenizer=tokenizer_label(manifest.files["tokenizer.json"].sha256),
        bytes=manifest.bytes,
        digest=manifest.digest(),
    )
    assert {path.name for path in target.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "manifest.json")
    }
    assert import_into(chat_source, tmp_path / "models/chat").tasks == (Task.CHAT,)
    assert (tmp_path / "models/chat/chat_template.jinja").exists()
    assert import_into(source, target) == imported, "a second time finds what is there"


def import_into(source: Path, target: Path) -> ImportedModel:
    """Import into a folder."""
    return import_model(source, target.as_uri(), target.with_name("work"), FileTransfer())


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


def without_embedding(folder: Path) -> None:
    """23 of 24 names match, and a job that loads the model would need gigabytes for the missing one."""
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "word_embeddings" not in k}, folder / "model.safetensors")
    edit(folder / "config.json", vocab_size=3 * 10**8)


def other_shapes(folder: Path) -> None:
    edit(folder / "config.json", hidden_size=32)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle beside it": (pickled_as("pytorch_model.bin"), "can contain code"),
    "a pickle of another name": (pickled_as("notes.txt"), "a pickle"),
    "a pickle as safetensors": (pickled_as("model.safetensors"), "not a safetensors file"),
    "a zip with a pickle": (zipped_as("extra.data"), "zip archive"),
    "torch.save as safetensors": (torch_saved, "zip archive"),
    "a header without end": (with_huge_header, "not a safetensors file"),
    "a cut file": (cut, "not a safetensors file"),
    "weights of something else": (other_weights, "do not contain the weights"),
    "more layers than weights": (lambda f: edit(f / "config.json", num_hidden_layers=10**7), "it has 10000000 layers"),
    "no embedding for a huge vocabulary": (without_embedding, "have no weight embeddings.word_embeddings"),
    "shapes that do not fit": (other_shapes, "has shape"),
    "Python code": (lambda f: (f / "modeling_evil.py").write_text("x = 1"), "can contain code"),
    "code deeper down": (code_deeper_down, "can contain code"),
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
def test_an_unsafe_source_is_refused_with_a_reason_and_leaves_no_files(source: Path, tmp_path: Path, case: str) -> None:
    damage, message = REFUSED[case]
    damage(source)
    target = tmp_path / "models/target"
    with pytest.raises(InvalidError, match=message):
        import_into(source, target)
    assert not list(tmp_path.glob("models/*/*"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{{ ''.__class__.__mro__ }}", "rejects|differently"),
        ("x" * 70_000, "longer than"),
        ("{{ 'x' * 9000000000 }}", "too much memory"),
        ("{{ 7 ** messages|length }}", r"operator \*\*"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes longer"),
    ],
)
def test_an_unusable_chat_template_is_refused(
    chat_source: Path, tmp_path: Path, template: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass_pipelines.train.import_model._PROBE_SECONDS", 1)
    path = chat_source / "chat_template.jinja"
    path.unlink() if template is None else path.write_text(template)
    with pytest.raises(InvalidError, match=message):
        import_into(chat_source, tmp_path / "target")


def test_a_folder_with_too_many_files_is_refused(source: Path, tmp_path: Path) -> None:
    for number in range(1001):
        (source / f"{number}.md").touch()
    with pytest.raises(InvalidError, match="more than 1000 entries"):
        import_into(source, tmp_path / "target")


def write_request(folder: Path, request: ImportRequest) -> str:
    path = folder / "request.json"
    path.write_text(request.model_dump_json())
    return str(path)


def staged_files(source: Path, store: Path) -> tuple[ModelSourceFile, ...]:
    """Put the files of a folder where an upload puts them: under numbers."""
    store.mkdir()
    files = []
    for number, path in enumerate(path for path in sorted(source.rglob("*")) if path.is_file()):
        shutil.copyfile(path, store / str(number))
        name, staged = path.relative_to(source).as_posix(), (store / str(number)).as_uri()
        files.append(ModelSourceFile(path=name, uri=staged, entry=sha256_file(path)))
    return tuple(files)


def test_uploaded_files_are_imported_and_the_result_is_published_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (source / "manifest.json").unlink()
    target, result, files = tmp_path / "target", tmp_path / "result", staged_files(source, tmp_path / "staged")
    request = write_request(tmp_path, ImportRequest(files=files, target=target.as_uri()))

    def run(number: int) -> bytes:
        """Run another process of the task, in a scratch folder of its own, and return the published result."""
        (tmp_path / f"work-{number}").mkdir()
        assert main([request, "--work", str(tmp_path / f"work-{number}"), "--publish-result", result.as_uri()]) == 0
        return (result / "result.json").read_bytes()

    published = run(1)
    assert json.loads(published)["tasks"] == ["text-classification"]
    assert (target / "pooling.json").exists()
    shutil.rmtree(result)  # as if the first process had died between its model and its result
    assert run(2) == published
    shutil.rmtree(target)
    assert run(3) == published
    assert not target.exists(), "a published result stands: nothing is imported again"


def test_an_uploaded_file_that_is_not_the_declared_one_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    files = staged_files(source, tmp_path / "staged")
    (tmp_path / "staged/0").write_bytes(b"another")
    request = write_request(tmp_path, ImportRequest(files=files, target=(tmp_path / "target").as_uri()))
    published = (tmp_path / "published").as_uri()
    assert main([request, "--work", str(tmp_path), "--publish-result", published]) == 0, "it is an answer, no failure"
    refused = json.loads((tmp_path / "published/result.json").read_bytes())["refused"]
    assert "config.json has another sha256 or length than declared" in refused


def test_the_command_writes_its_result(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []
    monkeypatch.setattr("resource.setrlimit", lambda *given: limits.append(given))  # they would bind the test run
    result = tmp_path / "result.json"
    request = write_request(tmp_path, ImportRequest(path=str(source), target=(tmp_path / "target").as_uri()))
    assert main([request, "--work", str(tmp_path)]) == 0
    assert json.loads(result.read_bytes())["tasks"] == ["text-classification"]
    assert len(limits) == 3
    request = write_request(tmp_path, ImportRequest(path=str(tmp_path / "nowhere"), target="file:///nowhere"))
    assert main([request, "--work", str(tmp_path)]) == 0
    assert "neither a folder nor a file" in json.loads(result.read_bytes())["refused"]


def test_an_import_that_needs_too_much_memory_is_refused(source: Path, tmp_path: Path) -> None:
    request = write_request(tmp_path, ImportRequest(path=str(source), target="file:///nowhere"))
    code = (
        "from windlass_pipelines.train import import_model as module\n"
        "module.import_model = lambda *_: bytearray(8 << 30)\n"
        f"raise SystemExit(module.main([{request!r}, '--work', {str(tmp_path)!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    refused = json.loads((tmp_path / "result.json").read_bytes())
    assert refused == {"refused": "the import needs more than 4 GiB of memory"}


@pytest.mark.parametrize(("declared", "expected"), [(None, 62), (50, 50)])
def test_the_longest_input_excludes_the_reserved_positions_of_roberta(declared: int | None, expected: int) -> None:
    config = RobertaConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    tokenizer = SimpleNamespace(model_max_length=declared or 10**30)
    assert max_positions(RobertaModel(config), tokenizer) == expected
