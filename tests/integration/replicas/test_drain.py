"""A replica of the API is stopped while clients use it: requests are answered, and streams end without an error."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.factories.replicas import ADMIN_KEY, ControlPlaneReplica, ControlPlaneReplicas, replicas, wait_until
from tests.factories.s3_server import S3Server

pytestmark = [pytest.mark.processes, pytest.mark.s3, pytest.mark.timeout(300)]
AUTHORIZATION = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def shared(tmp_path: Path, s3_server: S3Server) -> Iterator[ControlPlaneReplicas]:
    with replicas(tmp_path, s3_server) as started:
        yield started


class Requests:
    """Sends one request after the other, on one connection until the server closes it after a response."""

    def __init__(self, replica: ControlPlaneReplica) -> None:
        self._port = replica.port
        self.connections, self.answered = 0, 0
        self._thread = threading.Thread(target=self._run)
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until the server accepts no connection any more, or a request has failed."""
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
                    try:
                        connection.connect()
                    except ConnectionRefusedError:
                        return
                    self.connections += 1
                    self._send(connection)
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error

    def _send(self, connection: http.client.HTTPConnection) -> None:
        """Send requests until a response closes the connection."""
        closes = False
        while not closes:
            connection.request("GET", "/v1/projects", headers=AUTHORIZATION)
            response = connection.getresponse()
            assert response.status == 200
            closes = response.getheader("Connection") == "close"
            response.read()
            self.answered += 1


def begin_request(replica: ControlPlaneReplica) -> tuple[http.client.HTTPConnection, bytes]:
    """Send the head of a request; return its connection and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=60)
    body = json.dumps({"user": "eve", "name": "laptop"}).encode()
    connection.putrequest("POST", "/v1/keys")
    for name, value in (AUTHORIZATION | {"Content-Type": "application/json"}).items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    return connection, body


def test_a_stopped_replica_answers_what_reaches_it_and_ends_its_streams(shared: ControlPlaneReplicas) -> None:
    harness = shared.harness
    harness.create_project("ours")
    harness.create_base_model()
    harness.create_dataset("ours")
    job = harness.submit("ours", key="one")["id"]
    replica = shared.start("api")
    wait_until(replica.ready, "the replica is ready")
    requests, [slow, body] = Requests(replica), begin_request(replica)
    reads = ("GET", f"/v1/projects/ours/jobs/{job}/events")
    accept = {"Accept": "text/event-stream"}
    with closing(slow), replica.client() as client, client.stream(*reads, headers=accept) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()
        assert next(lines).startswith("event: ")
        requests.start()
        wait_until(lambda: requests.answered > 5, "requests are answered")
        assert requests.connections == 1, "while it runs, all requests use one connection"
        replica.process.terminate()
        requests.join()
        assert requests.error is None, repr(requests.error)
        assert requests.connections > 5, "when it stops, each one uses its own"
        assert "event: end" not in list(lines), "the body is complete, and the client resumes"
        slow.send(body)
        assert slow.getresponse().status == 201
    assert replica.process.wait(60) == 0
