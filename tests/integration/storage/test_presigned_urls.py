"""What a presigned request allows, on a real S3 server: one object, one length, once, for some time."""

import time
from io import BytesIO

import httpx2
import pytest
from tests.factories.s3_server import SMALL_PARTS, S3Server, signer

from windlass.domain.artifacts import FileEntry
from windlass.domain.errors import ConflictError, NotFoundError
from windlass.domain.transfers import SignedPut
from windlass.storage.s3 import S3ObjectStore

pytestmark = pytest.mark.s3

ENTRY = FileEntry(bytes=5, sha256="ab" * 32)


@pytest.fixture
def store(s3_server: S3Server) -> S3ObjectStore:
    return s3_server.new_store()


def put(signed: SignedPut, content: bytes, **headers: str) -> int:
    return httpx2.put(signed.url, content=content, headers={**signed.headers, **headers}).status_code


def test_a_signed_put_stores_an_object_with_its_declared_hash(store: S3ObjectStore) -> None:
    signed = signer(store).write("a/file", ENTRY)
    assert put(signed, b"hello") == 200
    assert signer(store).entry("a/file") == ENTRY
    with store.open("a/file") as stream:
        assert stream.read() == b"hello"


def test_a_signed_put_never_replaces_an_object(store: S3ObjectStore) -> None:
    signed = signer(store).write("a/file", ENTRY)
    assert (put(signed, b"hello"), put(signed, b"HELLO")) == (200, 412)
    with store.open("a/file") as stream:
        assert stream.read() == b"hello"


def test_a_signed_put_accepts_only_what_was_signed(store: S3ObjectStore) -> None:
    signed = signer(store).write("a/file", ENTRY)
    other_hash = {f"x-amz-meta-{'sha256'}": "cd" * 32}
    assert put(signed, b"longer than declared") in (400, 403)
    assert put(signed, b"hello", **other_hash) == 403
    assert put(SignedPut(url=signed.url), b"hello") in (400, 403), "without the condition"
    assert put(SignedPut(url=signed.url.replace("a/file", "a/other"), headers=signed.headers), b"hello") == 403
    assert put(signed, b"hello", **{"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}) == 400, "the MD5 of nothing"
    assert list(store.keys("a")) == []


def test_a_signed_get_reads_one_object_until_it_expires(store: S3ObjectStore) -> None:
    store.put("a/file", BytesIO(b"hello"))
    signed = signer(store, seconds=2).read("a/file", 5)
    assert httpx2.get(signed.url, headers={"range": "bytes=1-3"}).content == b"ell"
    assert httpx2.get(signed.url.replace("a/file", "a/other")).status_code == 403
    assert httpx2.delete(signed.url).status_code == 403
    time.sleep(2.5)
    assert httpx2.get(signed.url).status_code == 403


def test_the_parts_of_a_multipart_upload_become_one_object(store: S3ObjectStore) -> None:
    parts, entry = [b"a" * SMALL_PARTS, b"b"], FileEntry(bytes=SMALL_PARTS + 1, sha256="ab" * 32)
    urls = signer(store)
    upload = urls.start_multipart("a/large", entry)
    replies = [
        httpx2.put(signed.url, content=part)
        for signed, part in zip(urls.write_parts("a/large", upload, (1, 2)), parts, strict=True)
    ]
    etags = [reply.headers["etag"] for reply in replies]
    assert store.size("a/large") == 0
    with pytest.raises((ConflictError, NotFoundError)):
        urls.complete_multipart("a/large", upload, [etags[1], etags[0]])
    urls.complete_multipart("a/large", upload, etags)
    assert urls.entry("a/large") == entry


def test_a_multipart_upload_never_replaces_an_object(store: S3ObjectStore) -> None:
    urls = signer(store)
    upload = urls.start_multipart("a/file", ENTRY)
    etag = httpx2.put(urls.write_parts("a/file", upload, (1,))[0].url, content=b"hello").headers["etag"]
    store.put("a/file", BytesIO(b"first"))
    with pytest.raises(ConflictError):
        urls.complete_multipart("a/file", upload, [etag])
    with store.open("a/file") as stream:
        assert stream.read() == b"first"


def test_a_client_appends_to_a_staging_file(store: S3ObjectStore) -> None:
    urls = signer(store, public=True)
    store.append("up/0", 0, BytesIO(b"123"), 100)
    assert put(urls.stage("up/0", 3, 4), b"4567") == 200
    assert put(urls.stage("up/0", 3, 4), b"xxxx") == 412
    assert put(urls.stage("up/0", 20, 4), b"gap!") == 200
    assert (store.size("up/0"), store.append("up/0", 7, BytesIO(b"8"), 100)) == (7, 8)
    assert b"".join(httpx2.get(part.url).content for part in urls.read_file("up/0")) == b"12345678"
    with store.open("up/0") as stream:
        assert stream.read() == b"12345678"


def test_unfinished_multipart_uploads_are_listed_until_they_are_aborted(store: S3ObjectStore) -> None:
    urls = signer(store)
    uploads = [(key, urls.start_multipart(key, ENTRY)) for key in ("jobs/1/a", "jobs/1/b", "jobs/10/a")]
    assert sorted(urls.unfinished_multiparts("jobs/1")) == uploads[:2]
    for _ in range(2):
        urls.abort_multipart(*uploads[1])
    assert list(urls.unfinished_multiparts("jobs/1")) == uploads[:1]
    etag = httpx2.put(urls.write_parts(*uploads[0], (1,))[0].url, content=b"hello").headers["etag"]
    urls.complete_multipart(*uploads[0], [etag])
    assert list(urls.unfinished_multiparts("jobs/1")) == []
    urls.abort_multipart(*uploads[0])
    assert store.size("jobs/1/a") == ENTRY.bytes


def test_deletion_ends_multipart_uploads_too(store: S3ObjectStore) -> None:
    urls = signer(store)
    upload = urls.start_multipart("jobs/1/large", ENTRY)
    other = urls.start_multipart("jobs/10/large", ENTRY)
    store.delete("jobs/1")
    assert httpx2.put(urls.write_parts("jobs/1/large", upload, (1,))[0].url, content=b"x").status_code == 404
    assert httpx2.put(urls.write_parts("jobs/10/large", other, (1,))[0].url, content=b"x").status_code == 200
