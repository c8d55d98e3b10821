"""The one scan for code in model files; importer, trainer, register step and model server use it."""

import json
import pickle
from pathlib import Path

import pytest

from windlass.domain.errors import InvalidError
from windlass_pipelines.code_scan import check_content, check_name, check_type

HEADER = b"{}"


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.py", "a.PKL", "deep/pytorch_model.bin", "a.pt", "a.npz", "a.keras", "lib.so"])
def test_types_that_can_hold_code_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidError, match="can contain code"):
        check_name(name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(pickle.dumps({}), "a pickle"), (b"PK\x03\x04", "zip"), (b"\x1f\x8b", "compressed"), (b"\x7fELF", "a program")],
)
def test_code_is_refused_under_any_name(tmp_path: Path, content: bytes, kind: str) -> None:
    with pytest.raises(InvalidError, match=kind):
        check_type(write(tmp_path, "notes.txt", content))


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"])
def test_a_configuration_that_names_code_is_refused(tmp_path: Path, key: str) -> None:
    content = json.dumps({"nested": [{key: {"AutoModel": "evil.Model"}}]}).encode()
    with pytest.raises(InvalidError, match=key):
        check_content(write(tmp_path, "config.json", content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", {"model": {"vocab": {"auto_map": 1}}}),
        ("vocab.json", {"trust_remote_code": 1}),
        ("config.json", {"label2id": {"auto_map": 0}, "id2label": {"0": "auto_map"}}),
        ("report.json", {"classes": {"auto_map": {"f1": 1.0}}}),
    ],
)
def test_tokens_and_labels_may_have_any_name(tmp_path: Path, name: str, content: object) -> None:
    check_content(write(tmp_path, name, json.dumps(content).encode()))


@pytest.mark.parametrize("length", [0x8B1F, 0x0280])
def test_a_safetensors_header_of_any_length_is_accepted(tmp_path: Path, length: int) -> None:
    """The first bytes are its length, and may look like those of a compressed file or of a pickle."""
    header = HEADER.ljust(length)
    check_content(write(tmp_path, "model.safetensors", length.to_bytes(8, "little") + header))


@pytest.mark.parametrize("content", [b"", b"weights", pickle.dumps({}), (1 << 60).to_bytes(8, "little")])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidError, match="not a safetensors file"):
        check_content(write(tmp_path, "model.safetensors", content))


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'"\xff"'])
def test_json_that_cannot_be_parsed_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidError, match=r"config\.json is not"):
        check_content(write(tmp_path, "config.json", content))
