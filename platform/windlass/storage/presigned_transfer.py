"""``ports.FolderTransfer`` on ``s3:`` URIs, for processes that have a token and no credentials of the object store."""

import base64
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import httpx2

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, UnavailableError
from windlass.domain.transfers import MAX_SIGNED_PARTS, FolderFile, SignedGet, SignedPut
from windlass.kit.files import write_atomic
from windlass.runtime.artifacts import seal
from windlass.runtime.http import internal_client
from windlass.runtime.transfers import RetryTimer, TransferClient
from windlass.storage import sealing

_SCHEME = "s3://"
_OK, _CLIENT_ERROR = 200, 400
_COPY_BYTES = 1 << 20


class PresignedTransfer:
    """Fetches and publishes by presigned requests, which it gets from the control plane.

    Requests are repeated while the control plane or the store is away, as long as ``TransferClient.retry_seconds``
    without progress; a download continues where it stopped, and an upload with the next part. An expired URL is
    signed again.

    Args:
        connect: returns a new client of the transfer routes; each operation has its own connections.
    """

    def __init__(self, connect: Callable[[], TransferClient]) -> None:
        self._connect = connect

    def fetch(self, uri: str, folder: Path) -> Path:
        with self._session(uri) as session:
            session.fetch(uri, folder)
        return folder

    def fetch_file(self, uri: str, path: Path) -> Path:
        with self._session(uri) as session:
            session.fetch_file(uri, path)
        return path

    def publish(self, folder: Path, uri: str) -> Manifest:
        with self._session(uri) as session:
            manifest = session.publish(folder, uri)
        shutil.rmtree(folder, ignore_errors=True)
        return manifest

    def published(self, uri: str) -> list[str]:
        with self._session(uri) as session:
            return list(session.api.published(uri))

    def delete(self, uri: str) -> None:
        with self._session(uri) as session:
            session.api.delete(uri)

    @contextmanager
    def _session(self, uri: str) -> Iterator["_Session"]:
        if not uri.startswith(_SCHEME):
            raise InvalidError(f"{uri} cannot be fetched or published here; supported are URIs of {_SCHEME}")
        with self._connect() as api, internal_client(timeout=httpx2.Timeout(60.0, connect=5.0)) as http:
            yield _Session(api, http)


@dataclass(frozen=True)
class _Session:
    """The connections of one operation to the control plane and to the object store."""

    api: TransferClient
    http: httpx2.Client

    def fetch(self, uri: str, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier start of this process
        opened = self.api.open_folder(uri)
        try:
            for path, signed in opened.files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)

                def sign_again(path: str = path) -> Sequence[SignedGet]:
                    return [self.api.open_folder(uri).files[path]]

                self._download([signed], sign_again, target)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / MANIFEST_NAME, opened.manifest.model_dump_json(), durable=False)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def fetch_file(self, uri: str, path: Path) -> None:
        self._download(self.api.open_file(uri).parts, lambda: self.api.open_file(uri).parts, path)

    def publish(self, folder: Path, uri: str) -> Manifest:
        manifest = seal(folder)
        self.api.begin(uri)
        digest = manifest.digest()
        for path, entry in manifest.files.items():
            self._upload(uri, FolderFile(digest=digest, path=path, entry=entry), folder / path)
        self.api.commit(uri, manifest)
        return manifest

    def _download(self, parts: Sequence[SignedGet], sign_again: Callable[[], Sequence[SignedGet]], path: Path) -> None:
        timer = RetryTimer(self.api.retry_seconds)
        with path.open("wb") as stream:
            for number in range(len(parts)):
                if parts[number].secret is None:
                    parts = self._download_part(parts, number, sign_again, stream, timer)
                    continue
                with _scratch_file(path) as sealed:
                    parts = self._download_part(parts, number, sign_again, sealed, timer)
                    sealed.seek(0)
                    signed = parts[number]
                    sealing.open_sealed(sealed, signed.name, _secret(signed.secret), signed.bytes, stream)

    def _download_part(
        self,
        parts: Sequence[SignedGet],
        number: int,
        sign_again: Callable[[], Sequence[SignedGet]],
        stream: BinaryIO,
        timer: RetryTimer,
    ) -> Sequence[SignedGet]:
        """Append the stored bytes of a part to a file; return the parts, which may be signed again."""
        end = stream.tell() + parts[number].bytes
        while (missing := end - stream.tell()) > 0:
            try:
                self._read(parts[number], parts[number].bytes - missing, stream)
            except ForbiddenError:
                timer.wait(UnavailableError("the object store refuses the presigned URLs"))
                parts = sign_again()
            except UnavailableError as error:
                if end - stream.tell() < missing:
                    timer.progress()
                timer.wait(error)
            else:
                timer.progress()
        return parts

    def _read(self, signed: SignedGet, offset: int, stream: BinaryIO) -> None:
        """Append the rest of a part to the file; a part of it is kept when the connection is lost."""
        try:
            headers = {"range": f"bytes={offset}-{signed.bytes - 1}"}
            with self.http.stream("GET", signed.url, headers=headers) as reply:
                if reply.status_code >= _CLIENT_ERROR:
                    raise _error(reply.status_code)
                if reply.status_code == _OK and offset:
                    raise UnavailableError("the object store ignored the range of a request")
                left = signed.bytes - offset
                for chunk in reply.iter_raw():
                    stream.write(chunk[:left])
                    left -= len(chunk)
                if left:
                    raise UnavailableError("the object store sent another length than requested")
        except httpx2.HTTPError as error:
            raise UnavailableError(f"the object store is unreachable: {type(error).__name__}") from error

    def _upload(self, uri: str, file: FolderFile, source: Path) -> None:
        """Store one file; begin again when another process stores it too, or its upload is gone."""
        timer = RetryTimer(self.api.retry_seconds)
        while True:
            plan = self.api.write_file(uri, file)
            if plan.stored:
                return
            try:
                with _stored_form(source, plan.secret) as stream:
                    if plan.put is not None:
                        self._put(stream.read(), plan.put, lambda: self._put_of(uri, file))
                    elif plan.upload is not None:
                        etags = self._send_parts(uri, file, plan.upload, plan.part_bytes, stream)
                        self.api.complete_file(uri, file, plan.upload, etags)
                    return
            except (ConflictError, NotFoundError) as error:
                timer.wait(UnavailableError(f"{file.path} cannot be stored: {error.message}"))

    def _put_of(self, uri: str, file: FolderFile) -> SignedPut:
        plan = self.api.write_file(uri, file)
        if plan.put is None:
            raise ConflictError("it is stored by now")
        return plan.put

    def _send_parts(self, uri: str, file: FolderFile, upload: str, length: int, stream: BinaryIO) -> tuple[str, ...]:
        etags: list[str] = []
        numbers = range(1, -(-_length(stream) // length) + 1)
        for start in range(0, len(numbers), MAX_SIGNED_PARTS):
            batch = tuple(numbers[start : start + MAX_SIGNED_PARTS])
            for number, signed in zip(batch, self.api.write_parts(uri, file, upload, batch), strict=True):

                def sign_again(number: int = number) -> SignedPut:
                    return self.api.write_parts(uri, file, upload, (number,))[0]

                etags.append(self._put(stream.read(length), signed, sign_again))
        return tuple(etags)

    def _put(self, content: bytes, signed: SignedPut, sign_again: Callable[[], SignedPut]) -> str:
        """Send one request until it succeeds, and return the entity tag."""
        timer = RetryTimer(self.api.retry_seconds)
        checksum = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        while True:
            try:
                headers = {**signed.headers, "content-md5": checksum}
                reply = self.http.put(signed.url, content=content, headers=headers)
                if reply.status_code < _CLIENT_ERROR:
                    return str(reply.headers.get("etag", ""))
                raise _error(reply.status_code)
            except httpx2.HTTPError as error:
                timer.wait(UnavailableError(f"the object store is unreachable: {type(error).__name__}"))
            except ForbiddenError:
                timer.wait(UnavailableError("the object store refuses the presigned URLs"))
                signed = sign_again()
            except UnavailableError as error:
                timer.wait(error)


@contextmanager
def _scratch_file(beside: Path) -> Iterator[BinaryIO]:
    """Open a temporary file without a name on the disk of another one."""
    with tempfile.TemporaryFile(dir=beside.parent) as stream:
        yield cast("BinaryIO", stream)


@contextmanager
def _stored_form(source: Path, secret: str | None) -> Iterator[BinaryIO]:
    """Open a file as it is to be stored; all parts of an upload are of one encrypted copy."""
    with source.open("rb") as plain:
        if secret is None:
            yield plain
            return
        with _scratch_file(source) as stream:
            sealed = sealing.SealedSource(plain, _secret(secret))
            while data := sealed.read(_COPY_BYTES):
                stream.write(data)
            stream.seek(0)
            yield stream


def _secret(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def _length(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _error(status: int) -> ForbiddenError | NotFoundError | ConflictError | UnavailableError:
    message = f"the object store replied with status {status}"
    match status:
        case 403:
            return ForbiddenError(message)
        case 404:
            return NotFoundError(message)
        case 409 | 412:
            return ConflictError(message)
    return UnavailableError(message)
