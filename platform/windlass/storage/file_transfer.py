"""``ports.FolderTransfer`` on ``file:`` URIs: the object store is a folder that this process can read and write."""

import errno
import secrets
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError
from windlass.kit.failpoints import failpoint
from windlass.kit.files import make_folder, sync_folder
from windlass.runtime.artifacts import seal

_SCHEME = "file"
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


class FileTransfer:
    """``fetch`` returns the stored folder itself; ``publish`` moves the folder, or copies it from another disk."""

    def fetch(self, uri: str, folder: Path) -> Path:
        del folder  # nothing is copied
        stored = _path(uri)
        if not (stored / MANIFEST_NAME).is_file():
            raise NotFoundError(f"no folder is published at {uri}")
        return stored

    def fetch_file(self, uri: str, path: Path) -> Path:
        del path  # as above
        stored = _path(uri)
        if not stored.exists() or stored.is_dir():
            raise NotFoundError(f"there is no file {uri}")
        return stored

    def publish(self, folder: Path, uri: str) -> Manifest:
        target = _path(uri)
        manifest = seal(folder)
        failpoint("folder.sealed")
        make_folder(target.parent)
        try:
            _rename(folder, target)
        except OSError as error:
            if error.errno in _TAKEN:
                raise ConflictError(f"{uri} is published already", hint="publish a new version elsewhere") from error
            raise
        sync_folder(target.parent)
        return manifest

    def published(self, uri: str) -> list[str]:
        base = _path(uri)
        folders = [path.parent for path in base.rglob(MANIFEST_NAME) if path.parent != base]
        drafts = {folder for folder in folders if any(part.startswith(".") for part in folder.relative_to(base).parts)}
        return sorted(folder.as_uri() for folder in folders if folder not in drafts)

    def delete(self, uri: str) -> None:
        path = _path(uri)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _rename(folder: Path, target: Path) -> None:
    """Rename a folder, if necessary by way of a copy on the disk of ``target``."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        shutil.copytree(folder, draft)
        seal(draft)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != _SCHEME or parts.netloc not in ("", "localhost"):
        raise InvalidError(f"{uri} cannot be fetched or published here; supported are URIs that begin with file:///")
    path = Path(unquote(parts.path))
    if not path.is_absolute() or ".." in path.parts or parts.query or parts.fragment:
        raise InvalidError(f"{uri} is not the URI of an absolute path")
    return path
