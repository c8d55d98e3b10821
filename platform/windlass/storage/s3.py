"""The object store in an S3 bucket (cluster mode).

An object is immutable: every write is conditional (``If-None-Match: *``), so the store itself refuses to replace one.
S3 cannot append. A staging file is therefore a sequence of objects ``<key>/part-<offset>``, each as long as one append.
A conditional write of a part is what makes concurrent appends at one offset exclude each other, and no part exists
before all of it is durable. The length of the file is where its parts stop to be contiguous.
"""

import base64
import hashlib
import io
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, BinaryIO, cast

from windlass.domain.artifacts import MANIFEST_NAME, FileEntry, Manifest, check_relative_path
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from windlass.domain.ids import new_id
from windlass.domain.storage_layout import published_file_key
from windlass.kit.backoff import Backoff
from windlass.kit.numbers import count
from windlass.ports import DataKeys
from windlass.storage import sealing
from windlass.storage.s3_client import S3Bucket, translated_errors
from windlass.storage.staging import concurrent_append, longer_than_declared, wrong_offset

_Secret = bytes
IF_ABSENT = "*"
"""``If-None-Match`` of every write."""
_PART_BYTES = 8 << 20
_PART_PREFIX = "part-"
_FIRST_WINDOW = 128 << 10
_MAX_WINDOW = 8 << 20
_DELETE_BATCH = 1000
_READ_TRIES = 4
_BACKOFF = Backoff(0.2, 2.0)


@dataclass(frozen=True)
class FileSegment:
    """An object that is a whole file, or a part of a staging file.

    ``bytes`` is the length of its content, ``secret`` the key of an encrypted one.
    """

    key: str
    bytes: int
    etag: str
    secret: _Secret | None = field(default=None, repr=False)


def part_key(key: str, offset: int) -> str:
    """Return the key of the part of a staging file that begins at ``offset``."""
    return f"{key}/{_PART_PREFIX}{offset:016x}"


@dataclass(frozen=True)
class S3ObjectStore:
    """``ports.ObjectStore`` in a bucket.

    ``part_bytes``: longest part, which is in memory while it is sent. ``extending``: the bucket with fewer attempts for
    ``extend``, whose callers repeat it: while the store is away, their requests must not occupy all threads of the API.
    ``data_keys``: the keys of encrypted objects; None: all are stored in clear.
    """

    bucket: S3Bucket
    part_bytes: int = _PART_BYTES
    extending: S3Bucket | None = None
    data_keys: DataKeys | None = None

    def secret(self, key: str) -> bytes | None:
        """Return the key that encrypts an object, None if it is stored in clear. Raises as ``DataKeys.data_key``."""
        data_key = self.data_keys.data_key(key) if self.data_keys is not None else None
        return None if data_key is None else sealing.object_secret(data_key, key)

    def _plain_length(self, key: str, stored: int) -> int:
        is_sealed = self.data_keys is not None and self.data_keys.data_key(key) is not None
        return sealing.plain_length(stored) if is_sealed else stored

    def uri(self, key: str) -> str:
        check_relative_path(key)
        return f"s3://{self.bucket.name}/{key}"

    def key(self, uri: str) -> str:
        prefix = f"s3://{self.bucket.name}/"
        if not uri.startswith(prefix):
            raise InvalidError(f"{uri} is not in this object store")
        key = uri.removeprefix(prefix)
        try:
            check_relative_path(key)
        except ValueError as error:
            raise InvalidError(f"{uri} is not the URI of an object") from error
        return key

    def put(self, key: str, source: BinaryIO) -> FileEntry:
        check_relative_path(key)
        secret = self.secret(key)
        if secret is not None:
            hashed = _HashedSource(source)
            self._put(key, sealing.SealedSource(hashed, secret))
            return hashed.entry
        return self._put(key, source)

    def _put(self, key: str, source: sealing.ReadableBytes) -> FileEntry:
        first = _read(source, self.part_bytes)
        if len(first) == self.part_bytes:
            return self._put_in_parts(key, first, source)
        self._put_object(key, first)
        return FileEntry(bytes=len(first), sha256=hashlib.sha256(first).hexdigest())

    def _put_content(self, key: str, data: bytes, bucket: S3Bucket | None = None) -> None:
        """Store a short object, encrypted if its project is."""
        secret = self.secret(key)
        if secret is not None:
            data = sealing.SealedSource(io.BytesIO(data), secret).read(sealing.sealed_length(len(data)))
        self._put_object(key, data, bucket)

    def _put_object(self, key: str, data: bytes, bucket: S3Bucket | None = None) -> None:
        with translated_errors(key):
            (bucket or self.bucket).client.put_object(
                Bucket=self.bucket.name, Key=key, Body=data, ContentMD5=_md5(data), IfNoneMatch=IF_ABSENT
            )

    def _put_in_parts(self, key: str, first: bytes, source: sealing.ReadableBytes) -> FileEntry:
        client, target = self.bucket.client, {"Bucket": self.bucket.name, "Key": key}
        digest, size, parts = hashlib.sha256(), 0, []
        with translated_errors(key):
            upload = client.create_multipart_upload(**target)["UploadId"]
            try:
                for number, data in enumerate(chain([first], _chunks(source, self.part_bytes)), start=1):
                    reply = client.upload_part(
                        **target, UploadId=upload, PartNumber=number, Body=data, ContentMD5=_md5(data)
                    )
                    parts.append({"PartNumber": number, "ETag": reply["ETag"]})
                    digest.update(data)
                    size += len(data)
                client.complete_multipart_upload(
                    **target, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch=IF_ABSENT
                )
            except BaseException:
                with suppress(Exception):  # ``delete`` aborts it too
                    client.abort_multipart_upload(**target, UploadId=upload)
                raise
        return FileEntry(bytes=size, sha256=digest.hexdigest())

    def append(self, key: str, offset: int, source: BinaryIO, limit: int) -> int:
        if (length := self.size(key)) != offset:
            raise wrong_offset(offset, length)
        total = offset
        written: list[str] = []
        for data in _chunks(source, self.part_bytes):
            if total + len(data) > limit:
                self._delete_objects(written)
                raise longer_than_declared(limit)
            part = part_key(key, total)
            try:
                self._put_content(part, data)
            except ConflictError as error:
                raise concurrent_append() from error
            written.append(part)
            total += len(data)
        return total

    def extend(self, key: str, data: bytes) -> tuple[str, int]:
        piece = f"{key}/{new_id('log')}"
        self._put_content(piece, data, self.extending)
        return piece, 0

    def open(self, key: str) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Reader(self.bucket, self.segments(key)), 1 << 16))

    def segments(self, key: str) -> list[FileSegment]:
        """Return the objects that are the content of an object or staging file, in order.

        Raises:
            NotFoundError: no such key.
        """
        check_relative_path(key)
        with suppress(NotFoundError), translated_errors(key):
            head = self.bucket.client.head_object(Bucket=self.bucket.name, Key=key)
            return [self._segment(key, head["ContentLength"], head["ETag"])]
        segments, end = [], 0
        for item in self._list(f"{key}/{_PART_PREFIX}"):
            if item["Key"] == part_key(key, end):
                segments.append(self._segment(item["Key"], item["Size"], item["ETag"]))
                end += segments[-1].bytes
        if not segments:
            raise NotFoundError(f"no object {key}")
        return segments

    def _segment(self, key: str, stored: int, etag: str) -> FileSegment:
        return FileSegment(key, self._plain_length(key, stored), etag, self.secret(key))

    def size(self, key: str) -> int:
        try:
            return sum(segment.bytes for segment in self.segments(key))
        except NotFoundError:
            return 0

    def published_file(self, folder: str, path: str, digest: str | None = None) -> str:
        if digest is None:
            with self.open(f"{folder}/{MANIFEST_NAME}") as stream:
                digest = Manifest.read(stream, folder).digest()
        return published_file_key(folder, digest, path)

    def total_bytes(self, prefix: str) -> int:
        return sum(self._plain_length(item["Key"], item["Size"]) for item in self._list(f"{prefix}/"))

    def keys(self, prefix: str) -> Iterator[str]:
        check_relative_path(prefix)
        for item in self._list(f"{prefix}/"):
            yield item["Key"]

    def delete(self, prefix: str) -> None:
        check_relative_path(prefix)
        # A folder without its manifest is not published, so nobody reads one that is half deleted.
        self._delete_objects([key for key in self.keys(prefix) if key.endswith(f"/{MANIFEST_NAME}")])
        batch = [prefix]
        for key in self.keys(prefix):
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                self._delete_objects(batch)
                batch = []
        self._delete_objects(batch)
        for key, upload in self.unfinished_multiparts(prefix):  # of writers that died
            self.abort_multipart(key, upload)

    def _delete_objects(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _DELETE_BATCH):
            objects = [{"Key": key} for key in keys[start : start + _DELETE_BATCH]]
            with translated_errors(keys[start]):
                reply = self.bucket.client.delete_objects(
                    Bucket=self.bucket.name, Delete={"Objects": objects, "Quiet": True}
                )
            if errors := [error for error in reply.get("Errors", []) if error.get("Code") != "NoSuchKey"]:
                amount = count(len(errors), "object")
                raise OSError(f"{amount} could not be deleted: {errors[0].get('Key')}: {errors[0].get('Code')}")

    def unfinished_multiparts(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield key and id of each multipart upload at and below a prefix that was neither completed nor aborted."""
        with translated_errors(prefix):
            pages = self.bucket.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket.name, Prefix=prefix
            )
            for upload in (upload for page in pages for upload in page.get("Uploads", [])):
                if upload["Key"] == prefix or upload["Key"].startswith(f"{prefix}/"):
                    yield upload["Key"], upload["UploadId"]

    def abort_multipart(self, key: str, upload: str) -> None:
        """Delete the parts of an upload; no error when it was completed or aborted."""
        with suppress(NotFoundError), translated_errors(key):
            self.bucket.client.abort_multipart_upload(Bucket=self.bucket.name, Key=key, UploadId=upload)

    def _list(self, prefix: str) -> Iterator[dict[str, Any]]:
        with translated_errors(prefix):
            pages = self.bucket.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name, Prefix=prefix)
            for page in pages:
                yield from (item for item in page.get("Contents", []) if not item["Key"].endswith("/"))


class _HashedSource:
    """A stream that keeps length and SHA-256 of what was read of it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._digest, self._length = source, hashlib.sha256(), 0

    @property
    def entry(self) -> FileEntry:
        return FileEntry(bytes=self._length, sha256=self._digest.hexdigest())

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        self._length += len(data)
        return data


class _Reader(io.RawIOBase):
    """A seekable stream over segments, read in ranges that grow while the reading is sequential."""

    def __init__(self, bucket: S3Bucket, segments: list[FileSegment]) -> None:
        self._bucket, self._segments = bucket, segments
        self._ends = list(accumulate(segment.bytes for segment in segments))
        self._position = self._start = 0
        self._window, self._length = b"", _FIRST_WINDOW
        self._openers: dict[int, sealing.ChunkOpener] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._ends[-1] or not len(buffer):
            return 0
        if not self._start <= self._position < self._start + len(self._window):
            self._fetch()
        begin = self._position - self._start
        data = self._window[begin : begin + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self) -> None:
        """Read the next range; it ends with its segment."""
        is_sequential = bool(self._window) and self._position == self._start + len(self._window)
        self._length = min(2 * self._length, _MAX_WINDOW) if is_sequential else _FIRST_WINDOW
        index = bisect_right(self._ends, self._position)
        segment = self._segments[index]
        begin = self._position - (self._ends[index] - segment.bytes)
        end = min(begin + self._length, segment.bytes)
        if segment.secret is None:
            self._window, self._start = self._get(segment, begin, end), self._position
            return
        first = begin // sealing.CHUNK_BYTES
        sealed = self._get(segment, *sealing.sealed_range(begin, end, segment.bytes))
        self._window = self._opener(index, segment.secret).open(first, sealed)
        self._start = self._position - (begin - first * sealing.CHUNK_BYTES)

    def _opener(self, index: int, secret: bytes) -> sealing.ChunkOpener:
        if index not in self._openers:
            segment = self._segments[index]
            header = self._get(segment, 0, sealing.HEADER_BYTES)
            self._openers[index] = sealing.ChunkOpener(segment.key, secret, header, segment.bytes)
        return self._openers[index]

    def _get(self, segment: FileSegment, begin: int, end: int) -> bytes:
        """Read a range, again when the connection is lost in the middle of it: botocore only repeats requests."""
        failures = 0
        while True:
            try:
                with translated_errors(segment.key):
                    reply = self._bucket.client.get_object(
                        Bucket=self._bucket.name,
                        Key=segment.key,
                        Range=f"bytes={begin}-{end - 1}",
                        IfMatch=segment.etag,
                    )
                    data: bytes = reply["Body"].read()
                    return data
            except UnavailableError:
                failures += 1
                if failures == _READ_TRIES:
                    raise
            time.sleep(_BACKOFF.delay(failures))


def _read(source: sealing.ReadableBytes, length: int) -> bytes:
    """Return the next ``length`` bytes, fewer only at the end of the stream."""
    data = bytearray()
    while len(data) < length and (chunk := source.read(length - len(data))):
        data += chunk
    return bytes(data)


def _chunks(source: sealing.ReadableBytes, length: int) -> Iterator[bytes]:
    while data := _read(source, length):
        yield data


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
