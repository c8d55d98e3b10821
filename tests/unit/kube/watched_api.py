"""A fake API server of one kind whose history, watches and responses tests can disturb."""

import json
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import Configuration

from windlass.kube.client import KubeClient
from windlass.kube.objects import Kind

Json = dict[str, Any]
CONFIG = Kind("v1", "ConfigMap")
_CLOSE = "close"


class WatchedApi(ThreadingHTTPServer):
    """Serves lists and watches of ConfigMaps."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requested: Counter[str] = Counter()
        self.since: list[str] = []
        self.served = True
        self.refusals: list[tuple[int, dict[str, str]]] = []
        """Status and headers of the next responses."""
        self.expired_before = 0
        """Versions below this one have expired."""
        self.drop_events = False
        """Whether watches receive no events."""
        self.objects: dict[str, Json] = {}
        self.version = 100
        self.watches: list[queue.Queue[Json | str]] = []
        self.closing = False
        self.history: list[Json] = []
        self.lock = threading.Lock()
        """A watch that starts during a change must not miss it."""

    def put(self, name: str, **data: str) -> None:
        known = name in self.objects
        self.version += 1
        metadata = {"name": name, "namespace": "space", "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.objects[name] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        self._emit("MODIFIED" if known else "ADDED", self.objects[name])

    def delete(self, name: str) -> None:
        self.version += 1
        gone = self.objects.pop(name)
        gone = gone | {"metadata": gone["metadata"] | {"resourceVersion": str(self.version)}}
        self._emit("DELETED", gone)

    def bookmark(self) -> None:
        self.version += 1
        self._emit("BOOKMARK", {"kind": "ConfigMap", "metadata": {"resourceVersion": str(self.version)}})

    def send(self, line: Json | str) -> None:
        """Send a line to all watches."""
        with self.lock:
            for each in self.watches:
                each.put(line)

    def end_watches(self) -> None:
        self.send(_CLOSE)

    def _emit(self, kind: str, subject: Json) -> None:
        event = {"type": kind, "object": subject}
        with self.lock:
            self.history.append(event)
            for each in () if self.drop_events else self.watches:
                each.put(event)

    def register(self, since: int, lines: "queue.Queue[Json | str]") -> None:
        """Send a new watch the events since a version, and register it."""
        with self.lock:
            for event in self.history:
                if int(event["object"]["metadata"]["resourceVersion"]) > since:
                    lines.put(event)
            self.watches.append(lines)

    @property
    def client(self) -> KubeClient:
        configuration = Configuration()
        configuration.host = f"http://127.0.0.1:{self.server_address[1]}"
        return KubeClient(configuration)


class _Handler(BaseHTTPRequestHandler):
    server: WatchedApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/v1":
            found = [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}] if self.server.served else []
            return self._json(200, {"resources": found})
        what = "watch" if "watch" in query else "list"
        self.server.requested[what] += 1
        if not self.server.served:
            return self._json(404, {"kind": "Status", "message": "no such kind"})
        if self.server.refusals:
            status, headers = self.server.refusals.pop(0)
            return self._json(status, {"kind": "Status", "message": "refused"}, headers)
        if what == "watch":
            return self._watch(query)
        items = [{key: one[key] for key in ("metadata", "data")} for one in self.server.objects.values()]
        return self._json(200, {"metadata": {"resourceVersion": str(self.server.version)}, "items": items})

    def _json(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, query: dict[str, str]) -> None:
        self.server.since.append(query["resourceVersion"])
        lines: queue.Queue[Json | str] = queue.Queue()
        if int(query["resourceVersion"]) < self.server.expired_before:
            lines.put({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
            lines.put(_CLOSE)
        else:
            self.server.register(int(query["resourceVersion"]), lines)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.server.closing:
                try:
                    line = lines.get(timeout=0.02)
                except queue.Empty:
                    continue
                if line == _CLOSE:
                    self._chunk(b"")
                    break
                self._chunk((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n")
        except OSError:
            self.close_connection = True
        finally:
            if lines in self.server.watches:
                self.server.watches.remove(lines)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the parent
        """Suppress the request log."""


@contextmanager
def running() -> Iterator[WatchedApi]:
    with WatchedApi() as api:
        threading.Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield api
        finally:
            api.closing = True
            api.shutdown()
