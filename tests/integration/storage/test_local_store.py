"""Deletion in the local object store succeeds completely or raises."""

import shutil
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import pytest

from windlass.storage.local import LocalObjectStore


def test_an_incomplete_deletion_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalObjectStore(tmp_path)
    (tmp_path / "projects/p").mkdir(parents=True)
    (tmp_path / "projects/p/rows").write_text("secret")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError("not permitted")

    with monkeypatch.context() as patched:
        patched.setattr("os.unlink", refuse)
        with pytest.raises(PermissionError):
            store.delete("projects/p")
    assert store.size("projects/p/rows") == 6
    store.delete("projects/p")
    store.delete("projects/p")
    assert not (tmp_path / "projects/p").exists()


def test_a_concurrent_deletion_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalObjectStore(tmp_path)
    (tmp_path / "projects/p").mkdir(parents=True)
    remove = shutil.rmtree

    def overtaken(path: Path) -> None:
        remove(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(shutil, "rmtree", overtaken)
    store.delete("projects/p")
    assert not (tmp_path / "projects/p").exists()


def test_incomplete_files_of_a_killed_server_are_deleted_at_the_next_start(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("a/b", BytesIO(b"complete"))
    (tmp_path / ".drafts" / "0123456789abcdef").write_bytes(b"half")
    LocalObjectStore(tmp_path).delete_drafts()
    assert list((tmp_path / ".drafts").iterdir()) == []
    assert store.size("a/b") == 8
