"""The contract of every ``ports.FolderTransfer``."""

from pathlib import Path
from typing import Protocol

import pytest

from windlass.domain.errors import ConflictError, InvalidError, NotFoundError
from windlass.ports import FolderTransfer
from windlass.runtime.artifacts import verify


class TransferDriver(Protocol):
    """Controls a store and the disk of a process."""

    work: Path
    """An empty folder of the process."""

    @property
    def uri(self) -> str:
        """The parent of everything that the test publishes."""
        ...

    def file_uri(self, uri: str, path: str, digest: str | None = None) -> str:
        """Return the URI of a file of a published folder."""
        ...

    def transfer(self) -> FolderTransfer:
        """The transfer of another process."""
        ...

    def put_file(self, name: str, content: bytes) -> str:
        """Store a single file that is part of no published folder, as an upload is; return its URI."""
        ...


def draft(driver: TransferDriver, content: str = "hello", name: str = "draft") -> Path:
    """Write the files to publish."""
    folder = driver.work / name
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/a file.txt").write_text(content)
    (folder / "empty").touch()
    return folder


class FolderTransferContract:
    """Subclasses provide the fixture ``driver``."""

    def test_a_published_folder_is_fetched_as_it_was(self, driver: TransferDriver) -> None:
        manifest = driver.transfer().publish(draft(driver), f"{driver.uri}/1")
        assert set(manifest.files) == {"deep/a file.txt", "empty"}
        folder = driver.transfer().fetch(f"{driver.uri}/1", driver.work / "fetched")
        assert verify(folder) == manifest
        assert (folder / "deep/a file.txt").read_text() == "hello"

    def test_one_file_is_fetched_alone(self, driver: TransferDriver) -> None:
        digest = driver.transfer().publish(draft(driver), f"{driver.uri}/1").digest()
        for name, content in (("empty", ""), ("deep/a file.txt", "hello")):
            uri = driver.file_uri(f"{driver.uri}/1", name)
            assert driver.file_uri(f"{driver.uri}/1", name, digest) == uri
            assert driver.transfer().fetch_file(uri, driver.work / "one").read_text() == content
        unpublished = driver.file_uri(f"{driver.uri}/2", "empty", digest)  # known without a request to the store
        with pytest.raises(NotFoundError):
            driver.transfer().fetch_file(unpublished, driver.work / "one")
        with pytest.raises(NotFoundError):
            driver.transfer().fetch_file(driver.file_uri(f"{driver.uri}/1", "deep"), driver.work / "one")
        uploaded = driver.put_file("0", b"text,label\n")
        assert driver.transfer().fetch_file(uploaded, driver.work / "two").read_bytes() == b"text,label\n"

    def test_what_is_not_there_is_not_found(self, driver: TransferDriver) -> None:
        driver.put_file("0", b"no folder")
        driver.transfer().publish(draft(driver), f"{driver.uri}/1")
        for uri in (driver.uri, f"{driver.uri}/2", f"{driver.uri}/1/deep"):
            with pytest.raises(NotFoundError):
                driver.transfer().fetch(uri, driver.work / "fetched")
        for uri in (f"{driver.uri}/2", f"{driver.uri}/1", f"{driver.uri}/1/deep"):
            with pytest.raises(NotFoundError):
                driver.transfer().fetch_file(uri, driver.work / "fetched")

    def test_a_folder_is_published_once(self, driver: TransferDriver) -> None:
        driver.transfer().publish(draft(driver, "first"), f"{driver.uri}/1")
        with pytest.raises(ConflictError):
            driver.transfer().publish(draft(driver, "second", "other"), f"{driver.uri}/1")
        folder = driver.transfer().fetch(f"{driver.uri}/1", driver.work / "fetched")
        verify(folder)
        assert (folder / "deep/a file.txt").read_text() == "first"

    def test_published_folders_are_listed_and_deleted(self, driver: TransferDriver) -> None:
        driver.put_file("0", b"no folder")
        for name in ("1/5", "1/20", "10/5"):
            driver.transfer().publish(draft(driver), f"{driver.uri}/{name}")
        assert driver.transfer().published(driver.uri) == [f"{driver.uri}/{name}" for name in ("1/20", "1/5", "10/5")]
        assert driver.transfer().published(f"{driver.uri}/1") == [f"{driver.uri}/1/20", f"{driver.uri}/1/5"]
        driver.transfer().delete(f"{driver.uri}/1")
        assert driver.transfer().published(driver.uri) == [f"{driver.uri}/10/5"]
        driver.transfer().delete(f"{driver.uri}/1")
        assert driver.transfer().published(f"{driver.uri}/1") == []
        driver.transfer().publish(draft(driver, name="again"), f"{driver.uri}/1/5")
        assert driver.transfer().published(f"{driver.uri}/1") == [f"{driver.uri}/1/5"]

    @pytest.mark.parametrize("uri", ["gopher://host/1", "/data/1", "", "1"])
    def test_another_kind_of_uri_is_invalid(self, driver: TransferDriver, uri: str) -> None:
        transfer = driver.transfer()
        with pytest.raises(InvalidError, match="cannot be fetched or published"):
            transfer.fetch(uri, driver.work / "fetched")
        with pytest.raises(InvalidError, match="cannot be fetched or published"):
            transfer.publish(draft(driver), uri)
