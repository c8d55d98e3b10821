"""Requests of the control plane to an object store that does not answer."""

import socket
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.factories.s3_server import S3Server

from windlass.domain.errors import UnavailableError
from windlass.kit.backoff import Backoff
from windlass.kit.circuit_breaker import CircuitBreaker
from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket


@pytest.fixture
def connections() -> Iterator[list[str]]:
    """A server that closes every connection; its URL, followed by an entry for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = [f"http://127.0.0.1:{server.getsockname()[1]}"]

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                found.append("connection")
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield found
        server.shutdown(socket.SHUT_RDWR)


def test_log_text_is_sent_only_twice_because_its_source_repeats_it(connections: list[str]) -> None:
    settings = S3Settings(
        bucket="b", endpoint=connections[0], access_key_id="a", secret_access_key=SecretStr("not secret")
    )
    store = S3ObjectStore(S3Bucket.connect(settings), extending=S3Bucket.connect(settings, attempts=2))
    with pytest.raises(UnavailableError, match="unreachable"):
        store.extend("log", b"a line")
    assert connections[1:] == ["connection"] * 2


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_are_refused_at_once_while_the_store_is_away(connections: list[str]) -> None:
    settings = S3Settings(
        bucket="b", endpoint=connections[0], access_key_id="a", secret_access_key=SecretStr("not secret")
    )
    clock = Clock()
    breaker = CircuitBreaker(Backoff(1.0, 5.0), clock)
    store, other = (S3ObjectStore(S3Bucket.connect(settings, attempts=1, breaker=breaker)) for _ in range(2))

    def fail(store: S3ObjectStore) -> str:
        with pytest.raises(UnavailableError) as failed:
            store.extend("log", b"a line")
        return failed.value.message

    assert [fail(store) for _ in range(3)] == ["the object store is unreachable: ConnectionClosedError"] * 3
    assert len(connections[1:]) == 3
    assert {fail(store) for _ in range(10)} == {"the object store is away; it is tried again in a few seconds"}
    assert "away" in fail(other), "the clients of one store share what they know"
    assert len(connections[1:]) == 3, "nothing was sent"
    clock.now += 5
    assert ["away" in fail(store) for _ in range(3)] == [False, True, True], "one request tries the store"


@pytest.mark.s3
def test_a_store_that_is_back_is_used_again(tmp_path: Path, s3_server: S3Server) -> None:
    own, clock = S3Server(s3_server.binary, tmp_path / "s3"), Clock()
    own.start()
    try:
        name = own.new_bucket().name
        breaker = CircuitBreaker(Backoff(1.0, 5.0), clock)
        store = S3ObjectStore(S3Bucket.connect(own.settings(name), attempts=1, breaker=breaker))
        assert store.size("absent") == 0, "a reply of 404 is no failure of the server"
        own.stop()
        for key in "abcd":
            with pytest.raises(UnavailableError):
                store.put(key, BytesIO(b"1"))
        own.start()
        clock.now += 5
        for key in "abcd":
            store.put(key, BytesIO(b"1"))
    finally:
        own.stop()
