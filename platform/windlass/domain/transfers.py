"""The transfer protocol: how a process without credentials of the object store reads and publishes files.

The process sends a URI and its token to the control plane, and gets presigned requests for single objects.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, Manifest, Sha256, check_relative_path

MAX_SIGNED_PARTS = 100
"""Parts of a multipart upload for which one request gets URLs."""
MAX_PARTS = 10_000
"""Parts of a multipart upload, as in S3."""
MAX_FILE_BYTES = 5 << 40
"""Length of an object, as in S3."""
COMPLETE_SECONDS = 600.0
"""Time in which the object store must join the parts of a file."""

_Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
_UploadId = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TransferGrant(_Message):
    """What a token may do, by prefixes of keys. ``subject`` is who holds it, for logs."""

    subject: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    """Where folders may be published."""
    delete: tuple[str, ...] = ()


class SignedGet(_Message):
    """A presigned GET for one part of a file; the parts follow each other."""

    url: str
    bytes: int
    """Length of the stored object."""
    secret: str | None = Field(default=None, repr=False)
    """Base64 of the key of an encrypted object, whose content is shorter than ``bytes``."""
    name: str = ""
    """Key of an encrypted object in the store, for errors."""


class SignedPut(_Message):
    """A presigned PUT. The request must have exactly these headers beside Content-Length."""

    url: str
    headers: dict[str, str] = {}


class StagedPart(_Message):
    """A part of a staging file that may be sent straight to the object store."""

    offset: int
    bytes: int
    put: SignedPut


class UriRequest(_Message):
    """Concerns what is at or below a URI."""

    uri: _Uri


class FolderRequest(UriRequest):
    """Publishes a folder whose files are stored."""

    manifest: Manifest


class FolderFile(_Message):
    """One file of a folder that is being published. ``digest`` is that of the folder's manifest."""

    digest: Sha256
    path: str
    entry: FileEntry

    @field_validator("path")
    @classmethod
    def _file_of_a_manifest(cls, path: str) -> str:
        check_relative_path(path)
        if path == MANIFEST_NAME:
            raise ValueError("the manifest is written by the commit")
        return path


class FileRequest(UriRequest):
    """Concerns one file of a folder that is being published."""

    file: FolderFile


class PartsRequest(FileRequest):
    """Asks for the URLs of parts of a multipart upload."""

    upload: _UploadId
    numbers: tuple[Annotated[int, Field(ge=1, le=MAX_PARTS)], ...] = Field(min_length=1, max_length=MAX_SIGNED_PARTS)


class CompleteRequest(FileRequest):
    """Ends a multipart upload. ``etags`` are those of the parts, in order."""

    upload: _UploadId
    etags: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field(min_length=1, max_length=MAX_PARTS)


class FolderReply(_Message):
    """A published folder with the requests that read its files."""

    manifest: Manifest
    files: dict[str, SignedGet]


class FileReply(_Message):
    """The requests that read one file, in order."""

    parts: tuple[SignedGet, ...]


class UrisReply(_Message):
    """URIs of published folders."""

    uris: tuple[str, ...]


class FileUploadReply(_Message):
    """How to store a file: not at all, since it is stored already, by one PUT, or by the parts of an upload."""

    put: SignedPut | None = None
    upload: _UploadId | None = None
    part_bytes: int = 0
    secret: str | None = Field(default=None, repr=False)
    """Base64 of the key by which the file must be encrypted; None: it is sent as it is."""

    @property
    def stored(self) -> bool:
        """Whether nothing has to be sent."""
        return self.put is None and self.upload is None


class PartsReply(_Message):
    """The requests that send the parts, in the order of the numbers."""

    parts: tuple[SignedPut, ...]


class EmptyReply(_Message):
    """Nothing to return."""
