"""The processes of a pod share one copy of what they read."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.factories.tiny_models import seal_folder

from windlass.domain.errors import UnavailableError
from windlass.runtime.artifacts import verify
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train.input_files import fetch_once


class CopyingTransfer(FileTransfer):
    """Copies what it fetches, as from another machine; fails a number of times before that."""

    def __init__(self, failures: int = 0) -> None:
        self.fetched, self.failures = 0, failures

    def fetch(self, uri: str, folder: Path) -> Path:
        self.fetched += 1
        if self.fetched <= self.failures:
            raise UnavailableError("the object store is unreachable")
        shutil.copytree(super().fetch(uri, folder), folder)
        return folder


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "published").mkdir()
    (tmp_path / "published/weights").write_bytes(b"1" * 100_000)
    return seal_folder(tmp_path / "published").as_uri()


def test_processes_that_start_at_once_fetch_one_copy(tmp_path: Path, uri: str) -> None:
    transfer, start = CopyingTransfer(), threading.Barrier(8)

    def fetch(_: int) -> Path:
        start.wait()
        folder = fetch_once(transfer, uri, tmp_path / "inputs/base-model")
        verify(folder)
        return folder

    with ThreadPoolExecutor(8) as processes:
        assert set(processes.map(fetch, range(8))) == {tmp_path / "inputs/base-model"}
    assert transfer.fetched == 1


def test_the_next_process_fetches_when_one_has_failed(tmp_path: Path, uri: str) -> None:
    transfer = CopyingTransfer(failures=1)
    with pytest.raises(UnavailableError):
        fetch_once(transfer, uri, tmp_path / "inputs/base-model")
    verify(fetch_once(transfer, uri, tmp_path / "inputs/base-model"))
    assert transfer.fetched == 2


def test_a_store_on_the_same_disk_is_read_in_place(tmp_path: Path, uri: str) -> None:
    assert fetch_once(FileTransfer(), uri, tmp_path / "inputs/base-model") == tmp_path / "published"
