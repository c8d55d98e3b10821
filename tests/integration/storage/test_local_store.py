"""The object store in a folder: what is deleted is gone, or the caller hears that it is not."""

import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from windlass.storage.local import LocalObjectStore


def test_a_deletion_that_leaves_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalObjectStore(tmp_path)
    store.local_path("projects/p").mkdir(parents=True)
    store.local_path("projects/p/rows").write_text("secret")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError("not yours")

    with monkeypatch.context() as patched:
        patched.setattr("os.unlink", refuse)
        with pytest.raises(PermissionError):
            store.delete("projects/p")
    assert store.size("projects/p/rows") == 6
    store.delete("projects/p")
    store.delete("projects/p")
    assert not store.local_path("projects/p").exists()


def test_deleting_beside_another_who_deletes_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalObjectStore(tmp_path)
    store.local_path("projects/p").mkdir(parents=True)
    remove = shutil.rmtree

    def overtaken(path: Path) -> None:
        remove(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(shutil, "rmtree", overtaken)
    store.delete("projects/p")
    assert not store.local_path("projects/p").exists()
