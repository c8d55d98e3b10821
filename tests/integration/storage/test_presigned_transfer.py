"""Faults between a process, the control plane and a real S3 server: nothing is lost, and nothing half is visible."""

import itertools
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.contracts.object_store import content
from tests.factories.s3_server import SMALL_PARTS, S3Server, signer
from tests.factories.transfer_server import TransferServer

from windlass.domain.artifacts import Manifest, manifest_of
from windlass.domain.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from windlass.domain.transfers import FolderFile, SignedPut
from windlass.runtime.artifacts import verify
from windlass.storage.s3_signer import S3UrlSigner
from windlass.wire.runs import TRANSFERS_PATH

pytestmark = [pytest.mark.s3, pytest.mark.processes]

FOLDER = "projects/p/folder"


@pytest.fixture
def server(tmp_path: Path, s3_server: S3Server) -> Iterator[TransferServer]:
    (tmp_path / "home").mkdir()
    created = TransferServer(tmp_path / "home", s3_server)
    yield created
    created.close()


@pytest.fixture
def own_s3(s3_server: S3Server, tmp_path: Path) -> Iterator[S3Server]:
    """A server of this test, which it may stop."""
    own = S3Server(s3_server.binary, tmp_path / "s3")
    own.start()
    yield own
    own.stop()


@pytest.fixture
def faulty(tmp_path: Path, own_s3: S3Server) -> Iterator[TransferServer]:
    (tmp_path / "home").mkdir()
    created = TransferServer(tmp_path / "home", own_s3, url_seconds=2)
    yield created
    created.close()


def draft(root: Path, name: str = "draft", *, large: int = 0) -> Path:
    folder = root / name
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/small").write_bytes(name.encode())
    (folder / "large").write_bytes(content(large or 100_000, seed=len(name)))
    return folder


def folder_file(manifest: Manifest, path: str) -> FolderFile:
    return FolderFile(digest=manifest.digest(), path=path, entry=manifest.files[path])


def send(server: TransferServer, published: str, files: Sequence[tuple[str, SignedPut | None]]) -> None:
    """Store files by the requests that were signed for them, with the contents of a published folder."""
    for path, put in files:
        assert put is not None
        with server.store.open(server.store.published_file(published, path)) as stream:
            httpx2.put(put.url, content=stream.read(), headers=put.headers).raise_for_status()


@contextmanager
def interrupted(faulty: TransferServer, what: str, seconds: float) -> Iterator[None]:
    """Stop the object store or the control plane three times, first after a part of a second."""
    done = threading.Event()

    def interrupt() -> None:
        for uptime in (0.3, 1.0, 1.0):
            if done.wait(uptime):
                return
            if what == "store":
                faulty.s3.stop()
            else:
                faulty.outage()
            done.wait(seconds)
            if what == "store":
                faulty.s3.start()
            else:
                faulty.restore()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("what", ["store", "control plane"])
def test_a_transfer_survives_outages_and_expired_urls(tmp_path: Path, faulty: TransferServer, what: str) -> None:
    """Each outage is longer than a URL is valid."""
    folder = draft(tmp_path, large=2 * SMALL_PARTS + 17)
    uri = faulty.store.uri(FOLDER)
    with interrupted(faulty, what, 2.5):
        manifest = faulty.transfer(retry_seconds=60).publish(folder, uri)
        fetched = faulty.transfer(retry_seconds=60).fetch(uri, tmp_path / "fetched")
    assert verify(fetched) == manifest
    assert faulty.store.total_bytes(FOLDER) > manifest.bytes, "the files and the manifest"


def test_a_lost_connection_costs_only_the_rest_of_a_file(
    tmp_path: Path, server: TransferServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, size = server.store.uri(FOLDER), 8 << 20
    server.transfer().publish(draft(tmp_path, large=size), uri)
    ranges, iter_raw = [], httpx2.Response.iter_raw

    def break_off(self: httpx2.Response, *arguments: Any) -> Iterator[bytes]:
        if self.request.method == "GET" and "range" in self.request.headers:
            ranges.append(self.request.headers["range"])
        received = 0
        for chunk in iter_raw(self, *arguments):
            yield chunk
            received += len(chunk)
            if received > size // 3:
                raise httpx2.ReadError("the connection was lost")

    monkeypatch.setattr(httpx2.Response, "iter_raw", break_off)
    verify(server.transfer().fetch(uri, tmp_path / "fetched"))
    starts = [int(each.removeprefix("bytes=").partition("-")[0]) for each in ranges if each.endswith(f"-{size - 1}")]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert starts[1] > size // 3


def test_an_outage_that_lasts_ends_the_transfer(tmp_path: Path, faulty: TransferServer) -> None:
    uri = faulty.store.uri(FOLDER)
    faulty.transfer().publish(draft(tmp_path), uri)
    faulty.s3.stop()
    with pytest.raises(UnavailableError):
        faulty.transfer(retry_seconds=1).fetch(uri, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    faulty.outage()
    with pytest.raises(UnavailableError, match="control plane"):
        faulty.transfer(retry_seconds=1).published(uri)


def test_a_process_that_is_killed_publishes_all_files_or_none(tmp_path: Path, server: TransferServer) -> None:
    """The next process publishes the folder, and keeps the files that are stored already."""
    published = []
    for kill_at in itertools.count(1):
        uri, token = server.store.uri(f"{FOLDER}-{kill_at}"), server.token()
        folder = draft(tmp_path, f"draft-{kill_at:02}", large=SMALL_PARTS + 1)
        command = [sys.executable, "-m", "tests.factories.dying_publisher", server.url + TRANSFERS_PATH, token, uri]
        status = subprocess.run([*command, folder, str(kill_at)], check=False).returncode
        uris = server.transfer().published(server.store.uri("projects/p"))
        published.append(uri in uris)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if not published[-1]:
            server.transfer().publish(draft(tmp_path, f"again-{kill_at:02}", large=SMALL_PARTS + 1), uri)
        verify(server.transfer().fetch(uri, tmp_path / "fetched"))
    assert len(published) > 12, "it was killed at several points"
    assert published == sorted(published)
    assert (published[0], published[-2:]) == (False, [True, True])


def test_a_file_of_more_parts_than_one_request_signs(
    tmp_path: Path, server: TransferServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windlass.storage.presigned_transfer.MAX_SIGNED_PARTS", 2)
    uri = server.store.uri(FOLDER)
    manifest = server.transfer().publish(draft(tmp_path, large=4 * SMALL_PARTS + 3), uri)
    assert verify(server.transfer().fetch(uri, tmp_path / "fetched")) == manifest


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_file_of_more_than_five_gibibytes(tmp_path: Path, s3_server: S3Server) -> None:
    """S3 takes at most 5 GiB in one PUT. Four times this space is needed on the disk for some seconds."""
    size = (5 << 30) + (100 << 20) + 7
    (tmp_path / "home").mkdir()
    with closing(TransferServer(tmp_path / "home", s3_server, part_bytes=64 << 20)) as server:
        folder = draft(tmp_path)
        with (folder / "large").open("r+b") as stream:
            for position in (0, 3 << 30, size - 1000):
                stream.seek(position)
                stream.write(content(1000, seed=position))
        uri = server.store.uri(FOLDER)
        manifest = server.transfer().publish(folder, uri)
        assert manifest.files["large"].bytes == size
        fetched = server.transfer().fetch(uri, tmp_path / "fetched")
        assert verify(fetched) == manifest
        shutil.rmtree(fetched)
        server.transfer().delete(uri)


def test_a_store_that_joins_the_parts_of_a_file_slowly_gets_them_once(
    tmp_path: Path, server: TransferServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 may need minutes for that; other requests have a short timeout."""
    complete, requests = S3UrlSigner.complete_multipart, []

    def slowly(self: S3UrlSigner, key: str, upload: str, etags: Sequence[str]) -> None:
        requests.append(upload)
        time.sleep(3)
        complete(self, key, upload, etags)

    monkeypatch.setattr(S3UrlSigner, "complete_multipart", slowly)
    monkeypatch.setattr("windlass.runtime.transfers._REPLY_SECONDS", 1.5)
    uri = server.store.uri(FOLDER)
    manifest = server.transfer().publish(draft(tmp_path, large=SMALL_PARTS + 1), uri)
    assert len(requests) == 1
    assert verify(server.transfer().fetch(uri, tmp_path / "fetched")) == manifest


def test_stored_files_are_not_sent_again(tmp_path: Path, server: TransferServer) -> None:
    uri, transfer = server.store.uri(FOLDER), server.transfer()
    folder = draft(tmp_path, large=SMALL_PARTS + 1)
    manifest = transfer.publish(folder, server.store.uri(f"{FOLDER}-other"))
    small, large = (folder_file(manifest, path) for path in ("deep/small", "large"))
    with server.client() as client:
        with pytest.raises(ConflictError, match="as declared"):
            client.commit(uri, manifest)
        put = client.write_file(uri, small).put
        assert put is not None
        assert httpx2.put(put.url, content=b"draft", headers=put.headers).status_code == 200
        assert client.write_file(uri, small).stored
        assert client.write_file(uri, large).upload is not None
        wrong = small.model_copy(update={"entry": large.entry})
        with pytest.raises(ConflictError, match="another content"):
            client.write_file(uri, wrong)
        with pytest.raises(ConflictError, match="as declared"):
            client.commit(uri, manifest)


def test_publishers_of_other_contents_change_nothing_in_a_published_folder(
    tmp_path: Path, server: TransferServer
) -> None:
    """Each of them is at another point when the folder is published, and sends the rest afterwards."""
    uri, transfer = server.store.uri(FOLDER), server.transfer()
    drafts = [draft(tmp_path, f"draft-{'x' * number}") for number in range(4)]
    others = [transfer.publish(folder, f"{uri}-{number}") for number, folder in enumerate(drafts[1:])]
    with server.client() as client:
        stored, late, _ = (
            [(path, client.write_file(uri, folder_file(manifest, path)).put) for path in manifest.files]
            for manifest in others
        )
        send(server, f"{FOLDER}-0", stored[:1])
        below = transfer.publish(draft(tmp_path, "below"), f"{uri}/below")
        manifest = transfer.publish(drafts[0], uri)
        names = {key.split("/")[3] for key in server.store.keys(FOLDER)}
        assert names == {manifest.digest(), "manifest.json", "below"}
        send(server, f"{FOLDER}-1", late)
        for other, refusal in zip(others, ("as declared", "published already", "as declared"), strict=True):
            with pytest.raises(ConflictError, match="published already"):
                client.write_file(uri, folder_file(other, "large"))
            with pytest.raises(ConflictError, match=refusal):
                client.commit(uri, other)
    assert verify(transfer.fetch(uri, tmp_path / "fetched")) == manifest
    assert verify(transfer.fetch(f"{uri}/below", tmp_path / "fetched")) == below
    server.store.delete(FOLDER)
    assert list(server.store.keys(FOLDER)) == []


def test_the_commit_of_a_folder_ends_the_uploads_that_its_other_publishers_have_begun(
    tmp_path: Path, server: TransferServer
) -> None:
    uri, folder = server.store.uri(FOLDER), draft(tmp_path, large=SMALL_PARTS + 1)
    others = [manifest_of(folder), manifest_of(draft(tmp_path, "other", large=SMALL_PARTS + 1))]
    with server.client() as client:
        uploads = [client.write_file(uri, folder_file(manifest, "large")).upload for manifest in others]
        below = client.write_file(f"{uri}/below", folder_file(others[0], "large")).upload
    assert None not in (*uploads, below)
    manifest = server.transfer().publish(folder, uri)
    assert [upload for _, upload in signer(server.store).unfinished_multiparts(FOLDER)] == [below]
    assert verify(server.transfer().fetch(uri, tmp_path / "fetched")) == manifest


def test_one_of_several_publishers_of_a_folder_succeeds(tmp_path: Path, server: TransferServer) -> None:
    def publish(number: int) -> bool:
        folder = draft(tmp_path, f"draft-{'x' * number}", large=SMALL_PARTS + 1)
        try:
            server.transfer(retry_seconds=5).publish(folder, server.store.uri(f"{FOLDER}-{attempt}"))
        except ConflictError:
            return False
        finally:
            subprocess.run(["rm", "-rf", folder], check=True)
        return True

    for attempt in range(4):
        with ThreadPoolExecutor(3) as pool:
            succeeded = list(pool.map(publish, range(1, 4)))
        uri = server.store.uri(f"{FOLDER}-{attempt}")
        assert sum(succeeded) == 1
        verify(server.transfer().fetch(uri, tmp_path / "fetched"))
        expected = f"draft-{'x' * (1 + succeeded.index(True))}"
        assert (tmp_path / "fetched/deep/small").read_text(encoding="ascii") == expected


def test_a_url_that_outlives_the_publication_changes_nothing(tmp_path: Path, server: TransferServer) -> None:
    uri = server.store.uri(FOLDER)
    folder = draft(tmp_path)
    with server.client() as client:
        large = folder_file(manifest_of(folder), "large")
        signed = client.write_file(uri, large).put
        assert signed is not None
        manifest = server.transfer().publish(folder, uri)
        late = b"x" * large.entry.bytes
        assert httpx2.put(signed.url, content=late, headers=signed.headers).status_code == 412
        with pytest.raises(ConflictError, match="published already"):
            client.write_file(uri, large)
    assert verify(server.transfer().fetch(uri, tmp_path / "fetched")) == manifest


def test_a_token_gives_access_to_its_prefixes_only(tmp_path: Path, server: TransferServer) -> None:
    store = server.store
    server.transfer().publish(draft(tmp_path), store.uri(FOLDER))
    readable, other = store.uri(FOLDER), store.uri(f"{FOLDER}s")
    token = server.token(read=(FOLDER,), write=(f"{FOLDER}/new",), delete=())
    limited = server.transfer(token)
    verify(limited.fetch(readable, tmp_path / "fetched"))
    for uri in (other, store.uri("projects"), store.uri("projects/q")):
        with pytest.raises(ForbiddenError):
            limited.fetch(uri, tmp_path / "fetched")
        with pytest.raises(ForbiddenError):
            limited.fetch_file(uri, tmp_path / "fetched")
        with pytest.raises(ForbiddenError):
            limited.published(uri)
    for uri in (readable, other, f"{readable}/newer"):
        with pytest.raises(ForbiddenError):
            limited.publish(draft(tmp_path, f"draft-{random.random()}"), uri)
        with pytest.raises(ForbiddenError):
            limited.delete(uri)
    with pytest.raises(UnauthenticatedError):
        server.transfer(token[:-1] + "x").fetch(readable, tmp_path / "fetched")
    server.harness.clock.advance(3600)
    with pytest.raises(UnauthenticatedError):
        limited.fetch(readable, tmp_path / "fetched")


def test_a_file_that_is_gone_is_not_found(tmp_path: Path, server: TransferServer) -> None:
    uri = server.store.uri(FOLDER)
    server.transfer().publish(draft(tmp_path), uri)
    server.store.delete(server.store.published_file(FOLDER, "large"))
    began = time.monotonic()
    with pytest.raises(NotFoundError):
        server.transfer().fetch(uri, tmp_path / "fetched")
    assert time.monotonic() - began < 20
