"""The object store, and presigned requests for processes that have no credentials for it."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from windlass.domain.artifacts import FileEntry
from windlass.domain.transfers import SignedGet, SignedPut


class ObjectStore(Protocol):
    """Files by key: relative POSIX paths chosen by the control plane, never by a user.

    Objects are immutable, and a write is atomic for readers.
    """

    def put(self, key: str, source: BinaryIO) -> FileEntry:
        """Store the rest of the stream under ``key``; visible only when complete.

        Raises:
            ConflictError: the key exists; the object does not change.
            StorageFullError: no space left; no partial file remains.
        """
        ...

    def append(self, key: str, offset: int, source: BinaryIO, limit: int) -> int:
        """Append the rest of the stream to a staging file of ``offset`` bytes, durably, and return its new length.

        Raises:
            ConflictError: the file is not ``offset`` bytes long, or another call is appending to it.
            TooLargeError: more than ``limit`` bytes in total; the file keeps its old length.
            StorageFullError: no space left; the file keeps the received bytes, its length is the offset to resume at.
        """
        ...

    def extend(self, key: str, data: bytes) -> tuple[str, int]:
        """Append data to a growing object and return where it is: a key and a position in bytes.

        The key is ``key`` or, in a store that cannot append, an object below it. Concurrent calls do not overlap.

        Raises:
            StorageFullError: no space left; nothing was appended.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """Open an object or staging file for reading; the stream can seek.

        Raises:
            NotFoundError: no such key.
        """
        ...

    def size(self, key: str) -> int:
        """Return the length of an object or staging file in bytes, 0 when there is no such key."""
        ...

    def total_bytes(self, prefix: str) -> int:
        """Return the bytes of all objects below a prefix."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix, sorted. A staging file may have several keys below its own."""
        ...

    def published_file(self, folder: str, path: str, digest: str | None = None) -> str:
        """Return the key of a file of a published folder; whether the folder has such a file is not checked.

        ``digest``: that of the folder's manifest, if the caller knows it; then the store is not asked.

        Raises:
            NotFoundError: the store cannot tell the key, because no folder is published there.
            ChecksumMismatchError: its manifest is not valid.
        """
        ...

    def delete(self, prefix: str) -> None:
        """Delete a key and all keys below it, manifests first; no error when there is none.

        Raises:
            OSError: some files could not be deleted; retry.
        """
        ...

    def uri(self, key: str) -> str:
        """Return the URI of a key or prefix, for the processes that fetch and publish by ``FolderTransfer``."""
        ...

    def key(self, uri: str) -> str:
        """Return the key of a URI.

        Raises:
            InvalidError: it is no URI of this store.
        """
        ...


class UrlSigner(Protocol):
    """Presigned requests for single objects, which anyone can send who has the URL, until it expires.

    A signed PUT never replaces an object: the store refuses it with status 412.
    """

    def part_length(self, size: int) -> int:
        """Return the length of the parts in which a file of ``size`` bytes is sent; a shorter file is one PUT.

        Raises:
            TooLargeError: the store has no objects of this length.
        """
        ...

    @property
    def reaches_clients(self) -> bool:
        """Whether clients outside of the cluster reach the store, so that they can send staging files to it."""
        ...

    def secret(self, key: str) -> str | None:
        """Return the key by which a writer must encrypt an object, in base64; None: it is stored in clear.

        Raises:
            NotFoundError, UnavailableError: as ``DataKeys.data_key``.
        """
        ...

    def stored_length(self, key: str, size: int) -> int:
        """Return the length of the stored object for a file of ``size`` bytes; an encrypted one is longer."""
        ...

    def read(self, key: str, size: int) -> SignedGet:
        """Sign the GET of an object of ``size`` bytes; the store is not asked."""
        ...

    def read_file(self, key: str) -> tuple[SignedGet, ...]:
        """Sign the GETs of an object, or of the parts of a staging file.

        Raises:
            NotFoundError: no such key.
        """
        ...

    def write(self, key: str, entry: FileEntry) -> SignedPut:
        """Sign the PUT of an object with exactly the stored length of ``entry``, which it keeps."""
        ...

    def entry(self, key: str) -> FileEntry | None:
        """Return what was declared for an object that was written by these requests; None when there is none."""
        ...

    def start_multipart(self, key: str, entry: FileEntry) -> str:
        """Start to write an object in parts; return the id of the upload."""
        ...

    def write_parts(self, key: str, upload: str, numbers: Sequence[int]) -> tuple[SignedPut, ...]:
        """Sign the PUTs of parts of an upload."""
        ...

    def complete_multipart(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object of an upload visible.

        Raises:
            ConflictError: the key exists, or the parts are not those of the upload.
            NotFoundError: the upload was aborted. Some stores raise it also when it was completed.
        """
        ...

    def unfinished_multiparts(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield key and id of each upload at and below a prefix that was neither completed nor aborted."""
        ...

    def abort_multipart(self, key: str, upload: str) -> None:
        """Delete the parts of an upload; no error when it was completed or aborted."""
        ...

    def stage(self, key: str, offset: int, size: int) -> SignedPut:
        """Sign the PUT by which a client outside appends ``size`` bytes to a staging file."""
        ...
