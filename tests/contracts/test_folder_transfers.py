"""Runs the folder transfer contract on the local disk and by presigned requests, and what only holds on a disk."""

import errno
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from tests.contracts.folder_transfer import FolderTransferContract, TransferDriver, draft
from tests.factories.processes import is_killed_at
from tests.factories.s3_server import S3Server
from tests.factories.transfer_server import TransferServer
from tests.fakes.encryption import FixedDataKeys

from windlass.domain.errors import InvalidError
from windlass.ports import FolderTransfer, ObjectStore
from windlass.runtime.artifacts import verify
from windlass.storage.file_transfer import FileTransfer
from windlass.storage.local import LocalObjectStore

OTHER_DISK = Path("/dev/shm")  # noqa: S108 - a file system of its own; the folder in it is private


def published_file_uri(store: ObjectStore, uri: str, path: str, digest: str | None) -> str:
    return store.uri(store.published_file(store.key(uri), path, digest))


@dataclass
class FolderDriver:
    """A store in a folder."""

    work: Path
    store: Path

    @property
    def uri(self) -> str:
        return (self.store / "a project").as_uri()

    def transfer(self) -> FolderTransfer:
        return FileTransfer()

    def file_uri(self, uri: str, path: str, digest: str | None = None) -> str:
        return published_file_uri(LocalObjectStore(self.store), uri, path, digest)

    def put_file(self, name: str, content: bytes) -> str:
        path = self.store / "a project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path.as_uri()


@pytest.fixture
def other_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=OTHER_DISK))
    yield folder
    shutil.rmtree(folder)


class TestFileTransfer(FolderTransferContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> TransferDriver:
        (tmp_path / "work").mkdir()
        return FolderDriver(tmp_path / "work", tmp_path / ".windlass/a store")


@dataclass
class BucketDriver:
    """A bucket behind a control plane."""

    work: Path
    server: TransferServer

    @property
    def uri(self) -> str:
        return self.server.store.uri("projects/p")

    def transfer(self) -> FolderTransfer:
        return self.server.transfer()

    def file_uri(self, uri: str, path: str, digest: str | None = None) -> str:
        return published_file_uri(self.server.store, uri, path, digest)

    def put_file(self, name: str, content: bytes) -> str:
        key = f"projects/p/{name}"
        self.server.store.append(key, 0, BytesIO(content), len(content))
        return self.server.store.uri(key)


@pytest.mark.s3
class TestPresignedTransfer(FolderTransferContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, s3_server: S3Server) -> Iterator[TransferDriver]:
        for name in ("work", "home"):
            (tmp_path / name).mkdir()
        server = TransferServer(tmp_path / "home", s3_server)
        yield BucketDriver(tmp_path / "work", server)
        server.close()


@pytest.mark.s3
class TestEncryptedPresignedTransfer(FolderTransferContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, s3_server: S3Server) -> Iterator[TransferDriver]:
        for name in ("work", "home"):
            (tmp_path / name).mkdir()
        server = TransferServer(tmp_path / "home", s3_server, data_keys=FixedDataKeys())
        yield BucketDriver(tmp_path / "work", server)
        server.close()


class TestFileTransferToAnotherDisk(FolderTransferContract):
    @pytest.fixture
    def driver(self, tmp_path: Path, other_disk: Path) -> TransferDriver:
        assert tmp_path.stat().st_dev != other_disk.stat().st_dev
        (tmp_path / "work").mkdir()
        return FolderDriver(tmp_path / "work", other_disk / "store")

    def test_the_copied_folder_is_used_up(self, driver: TransferDriver) -> None:
        folder = draft(driver)
        driver.transfer().publish(folder, f"{driver.uri}/1")
        assert not folder.exists()


def test_a_fetched_folder_is_the_stored_one(tmp_path: Path) -> None:
    driver = FolderDriver(tmp_path, tmp_path / "store")
    FileTransfer().publish(draft(driver), f"{driver.uri}/1")
    assert FileTransfer().fetch(f"{driver.uri}/1", tmp_path / "fetched") == tmp_path / "store/a project/1"
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("uri", ["file:///store/../etc", "file://host/store", "file:relative", "file:///store?x=1"])
def test_a_file_uri_is_an_absolute_path_on_this_machine(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InvalidError):
        FileTransfer().fetch_file(uri, tmp_path / "fetched")


def test_a_full_disk_leaves_nothing_visible(tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FolderDriver(tmp_path, other_disk)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="space"):
        FileTransfer().publish(draft(driver), f"{driver.uri}/1")
    assert FileTransfer().published(driver.uri) == []
    assert [path for path in other_disk.rglob("*") if path.is_file()] == []


_FILE_SYSTEM_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "shutil.copytree"})


def publish_and_die(driver: FolderDriver, kill_at: int) -> bool:
    """Publish in a child that is killed at its n-th access to the file system; return whether it was killed."""
    folder = draft(driver)
    return is_killed_at(_FILE_SYSTEM_EVENTS, kill_at, lambda: FileTransfer().publish(folder, f"{driver.uri}/1"))


@pytest.mark.processes
@pytest.mark.parametrize("disk", ["same", "other"])
def test_a_process_that_is_killed_publishes_all_files_or_none(tmp_path: Path, other_disk: Path, disk: str) -> None:
    published = []
    for kill_at in itertools.count(1):
        root = (other_disk if disk == "other" else tmp_path) / f"store-{kill_at}"
        driver = FolderDriver(tmp_path / f"work-{kill_at}", root)
        driver.work.mkdir()
        killed = publish_and_die(driver, kill_at)
        uris = FileTransfer().published(driver.uri)
        for uri in uris:
            assert len(verify(FileTransfer().fetch(uri, tmp_path / "unused")).files) == 2
        published.append(len(uris))
        if not killed:
            break
    assert len(published) > 5, "the child was killed at several points"
    assert published == sorted(published)
    assert (published[0], published[-1]) == (0, 1)
