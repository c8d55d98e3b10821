"""Presigned requests for the objects of an S3 bucket, signature version 4 in the query."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from windlass.domain.artifacts import FileEntry
from windlass.domain.errors import NotFoundError, TooLargeError
from windlass.domain.transfers import MAX_FILE_BYTES, MAX_PARTS, SignedGet, SignedPut
from windlass.kit import numbers
from windlass.storage import sealing
from windlass.storage.s3 import IF_ABSENT, S3ObjectStore, part_key
from windlass.storage.s3_client import S3Bucket, translated_errors

_SHA256 = "sha256"
"""Name of the metadata with the hash that the writer declared."""


@dataclass(frozen=True)
class S3UrlSigner:
    """``ports.UrlSigner`` for the objects of a store. Signing sends nothing.

    Args:
        store: the store, as the processes of the cluster reach it.
        public: its bucket with the URL for clients outside of the cluster; None when they do not reach it.
        seconds: time for which a URL is valid.
        part_bytes: length of the parts of multipart uploads.
        completing: the bucket of ``store`` with a longer timeout, to complete multipart uploads: the store may need
            minutes to join the parts of a large file.
    """

    store: S3ObjectStore
    public: S3Bucket | None
    seconds: int
    part_bytes: int
    completing: S3Bucket | None = None

    @property
    def reaches_clients(self) -> bool:
        return self.public is not None

    def read(self, key: str, size: int) -> SignedGet:
        url = self._sign(self.store.bucket, "get_object", key)
        secret = self.secret(key)
        if secret is None:
            return SignedGet(url=url, bytes=size)
        return SignedGet(url=url, bytes=sealing.sealed_length(size), secret=secret, name=key)

    def read_file(self, key: str) -> tuple[SignedGet, ...]:
        return tuple(self.read(segment.key, segment.bytes) for segment in self.store.segments(key))

    def secret(self, key: str) -> str | None:
        secret = self.store.secret(key)
        return None if secret is None else base64.b64encode(secret).decode()

    def stored_length(self, key: str, size: int) -> int:
        return size if self.store.secret(key) is None else sealing.sealed_length(size)

    def write(self, key: str, entry: FileEntry) -> SignedPut:
        url = self._sign(
            self.store.bucket,
            "put_object",
            key,
            IfNoneMatch=IF_ABSENT,
            ContentLength=self.stored_length(key, entry.bytes),
            Metadata={_SHA256: entry.sha256},
        )
        return SignedPut(url=url, headers={"if-none-match": IF_ABSENT, f"x-amz-meta-{_SHA256}": entry.sha256})

    def entry(self, key: str) -> FileEntry | None:
        try:
            with translated_errors(key):
                head = self.store.bucket.client.head_object(Bucket=self.store.bucket.name, Key=key)
        except NotFoundError:
            return None
        sha256 = head["Metadata"].get(_SHA256, "0" * 64)  # an object of another writer matches no declaration
        stored = head["ContentLength"]
        return FileEntry(
            bytes=stored if self.store.secret(key) is None else sealing.plain_length(stored), sha256=sha256
        )

    def start_multipart(self, key: str, entry: FileEntry) -> str:
        with translated_errors(key):
            reply = self.store.bucket.client.create_multipart_upload(
                Bucket=self.store.bucket.name, Key=key, Metadata={_SHA256: entry.sha256}
            )
        upload: str = reply["UploadId"]
        return upload

    def part_length(self, size: int) -> int:
        """Return the length of the parts of a file, which has at most ``MAX_PARTS`` of them."""
        if size > MAX_FILE_BYTES:
            raise TooLargeError(
                f"the file has {size:,} bytes; the object store takes at most {numbers.size(MAX_FILE_BYTES)} in a file"
            )
        return max(self.part_bytes, -(-size // MAX_PARTS))

    def write_parts(self, key: str, upload: str, numbers: Sequence[int]) -> tuple[SignedPut, ...]:
        return tuple(
            SignedPut(url=self._sign(self.store.bucket, "upload_part", key, UploadId=upload, PartNumber=number))
            for number in numbers
        )

    def complete_multipart(self, key: str, upload: str, etags: Sequence[str]) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        with translated_errors(key):
            (self.completing or self.store.bucket).client.complete_multipart_upload(
                Bucket=self.store.bucket.name,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
                IfNoneMatch=IF_ABSENT,
            )

    def unfinished_multiparts(self, prefix: str) -> Iterator[tuple[str, str]]:
        return self.store.unfinished_multiparts(prefix)

    def abort_multipart(self, key: str, upload: str) -> None:
        self.store.abort_multipart(key, upload)

    def stage(self, key: str, offset: int, size: int) -> SignedPut:
        bucket = self.public or self.store.bucket
        url = self._sign(bucket, "put_object", part_key(key, offset), IfNoneMatch=IF_ABSENT, ContentLength=size)
        return SignedPut(url=url, headers={"if-none-match": IF_ABSENT})

    def _sign(self, bucket: S3Bucket, method: str, key: str, **parameters: Any) -> str:
        url: str = bucket.client.generate_presigned_url(
            method, Params={"Bucket": bucket.name, "Key": key, **parameters}, ExpiresIn=self.seconds
        )
        return url
