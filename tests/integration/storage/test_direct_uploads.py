"""Uploads by the SDK into a real bucket: straight to the store where clients reach it, else through the API."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.s3_server import S3Server
from tests.factories.transfer_server import TransferServer

from windlass.sdk import Client
from windlass.services import uploads
from windlass.storage.s3 import part_key

pytestmark = [pytest.mark.s3, pytest.mark.processes]

PART = 1 << 20


@pytest.fixture
def own_s3(s3_server: S3Server, tmp_path: Path) -> Iterator[S3Server]:
    """A server of this test, which it may stop."""
    own = S3Server(s3_server.binary, tmp_path / "s3")
    own.start()
    yield own
    own.stop()


@pytest.fixture(params=["straight", "through the API"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, own_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TransferServer]:
    monkeypatch.setattr(uploads, "_PART_BYTES", PART)
    monkeypatch.setattr(uploads, "_SIGNED_PARTS", 2)
    (tmp_path / "home").mkdir()
    created = TransferServer(tmp_path / "home", own_s3, public=request.param == "straight")
    created.harness.create_project("ours")
    yield created
    created.close()


@pytest.fixture
def client(server: TransferServer) -> Iterator[Client]:
    key = server.harness.client.headers["authorization"].removeprefix("Bearer ")
    with Client(url=server.url, key=key, project="ours") as created:
        yield created


def write_rows(path: Path, size: int) -> Path:
    line = "a text of some length,good\n"
    path.write_text("text,label\n" + line * (size // len(line)))
    return path


def test_a_file_is_stored_as_it_was_sent(tmp_path: Path, server: TransferServer, client: Client) -> None:
    path = write_rows(tmp_path / "rows.csv", 3 * PART + 1000)
    version = client.datasets.upload("reviews", [path], task="text-classification")
    (key,) = {found.rpartition("/")[0] for found in server.store.keys("projects")}
    assert version.number == 1
    with server.store.open(key) as stream:
        assert stream.read() == path.read_bytes()
    sent_straight = server.store.size(part_key(key, PART)) == PART
    assert sent_straight == server.public


def test_an_upload_continues_after_an_outage_of_the_store(
    tmp_path: Path, server: TransferServer, client: Client
) -> None:
    path, positions = write_rows(tmp_path / "rows.csv", 5 * PART), []
    restart = threading.Timer(1.0, server.s3.start)

    def interrupt(_name: str, position: int, _total: int) -> None:
        positions.append(position)
        if position > 3 * PART and not restart.ident:
            server.s3.stop()
            restart.start()

    client.datasets.upload("reviews", [path], task="text-classification", progress=interrupt)
    restart.join()
    (key,) = {found.rpartition("/")[0] for found in server.store.keys("projects")}
    with server.store.open(key) as stream:
        assert stream.read() == path.read_bytes()
    again = [later for earlier, later in itertools.pairwise(positions) if later <= earlier]
    assert again, "it was interrupted"
    if server.public:
        assert all(position >= 2 * PART for position in again), "it did not begin again"
