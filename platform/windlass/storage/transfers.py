"""Which ``ports.FolderTransfer`` a process uses: one for each scheme of URIs that it can get."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import InvalidError
from windlass.ports import FolderTransfer
from windlass.runtime.context import RunEnvironment
from windlass.runtime.transfers import TransferClient
from windlass.storage.file_transfer import FileTransfer
from windlass.storage.presigned_transfer import PresignedTransfer


def folder_transfer(run: RunEnvironment | None = None) -> FolderTransfer:
    """Return the transfer of this process, for the URIs that the control plane gave it.

    ``file:`` URIs are on a disk of this machine. ``s3:`` URIs need the token of ``run``, or without a run the one that
    the environment variables of ``windlass.runtime.transfers`` name.
    """

    def presigned() -> FolderTransfer:
        return PresignedTransfer(TransferClient.of_process if run is None else lambda: TransferClient.of_run(run))

    return SchemeTransfer({"file": FileTransfer, "s3": presigned})


class SchemeTransfer:
    """``ports.FolderTransfer`` that uses the transfer of the URI's scheme, created when it is first needed."""

    def __init__(self, factories: Mapping[str, Callable[[], FolderTransfer]]) -> None:
        self._factories = factories
        self._transfers: dict[str, FolderTransfer] = {}

    def fetch(self, uri: str, folder: Path) -> Path:
        return self._of(uri).fetch(uri, folder)

    def fetch_file(self, uri: str, path: Path) -> Path:
        return self._of(uri).fetch_file(uri, path)

    def publish(self, folder: Path, uri: str) -> Manifest:
        return self._of(uri).publish(folder, uri)

    def published(self, uri: str) -> list[str]:
        return self._of(uri).published(uri)

    def delete(self, uri: str) -> None:
        self._of(uri).delete(uri)

    def _of(self, uri: str) -> FolderTransfer:
        scheme = urlsplit(uri).scheme
        if scheme not in self._factories:
            supported = " or ".join(f"{name}:" for name in self._factories)
            raise InvalidError(f"{uri} cannot be fetched or published here; supported are URIs with {supported}")
        if scheme not in self._transfers:
            self._transfers[scheme] = self._factories[scheme]()
        return self._transfers[scheme]
