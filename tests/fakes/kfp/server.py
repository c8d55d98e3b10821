"""A fake Kubeflow Pipelines 2.17 server over HTTP, with the faults that a test orders.

``KfpStore`` has its state. ``faults`` decides for each request, by its method and path, what goes wrong.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.kfp.store import KfpError, KfpServerSettings, KfpStore, page

_RUN = re.compile(r"/apis/v2beta1/runs/([^/:]+)(?::(terminate|retry|archive))?")
_V1_RUN = re.compile(r"/apis/v1beta1/runs/([^/]+)")
_LOG = re.compile(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log")
_VERSIONS = re.compile(r"/apis/v2beta1/pipelines/([^/]+)/versions")
_OBJECT = re.compile(r"/apis/v2beta1/(experiments|pipelines)/([^/]+)(?:/versions/([^/]+))?")
_FILE = re.compile(rb"\r\n\r\n(.*)\r\n--", re.DOTALL)
_HEALTH = {"commit_sha": "unknown", "tag_name": "unknown", "pipeline_store": "database"}


class Fault(StrEnum):
    """What goes wrong with one request."""

    REFUSED = "the connection is closed before the request is handled"
    LOST_REPLY = "the request is handled, and the connection closed"
    ERROR_AFTER = "the request is handled, and the reply is 500"
    UNAVAILABLE = "the reply is 503, and nothing is done"
    UNREADABLE = "the request is handled, and the reply is 200 without JSON"


class KfpServer(ThreadingHTTPServer):
    """Serves a ``KfpStore``, by default on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, store: KfpStore, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.store = store
        self.lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.faults: Callable[[str, str], Fault | None] = lambda _method, _path: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: KfpServer
    disable_nagle_algorithm = True  # a reply is written in two parts, and the second would wait for 40 ms
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        self.server.requests[f"{method} {path}"] += 1
        fault = self.server.faults(method, path)
        if fault is Fault.REFUSED:
            self.close_connection = True
            return
        if fault is Fault.UNAVAILABLE:
            self._reply(503, {"code": 14, "message": "the server restarts"})
            return
        try:
            with self.server.lock:
                self._authenticate()
                status, reply = 200, self._handle(method, path, body)
        except KfpError as error:
            status, reply = error.status, error.body()
        if fault is Fault.LOST_REPLY:
            self.close_connection = True
            return
        if fault is Fault.ERROR_AFTER:
            status, reply = 500, KfpError(500, 13, "InternalServerError: the database is gone").body()
        self._reply(status, "" if fault is Fault.UNREADABLE else reply)

    def _authenticate(self) -> None:
        settings = self.server.store.settings
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if settings.multi_user and token not in settings.tokens:
            raise KfpError(401, 16, "Unauthenticated: Request header error: there is no user identity header")

    def _handle(self, method: str, path: str, body: bytes) -> Any:
        store = self.server.store
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        named: list[tuple[re.Pattern[str], Callable[..., Any]]] = [
            (_RUN, lambda run, action: self._run(method, run, action)),
            (_V1_RUN, store.manifest),
            (_LOG, store.node_log),
            (_VERSIONS, lambda pipeline: page(store.versions_of(pipeline), "pipeline_versions", query)),
        ]
        for pattern, handle in named:
            if (match := pattern.fullmatch(path)) is not None:
                return handle(*match.groups())
        if method == "DELETE" and (match := _OBJECT.fullmatch(path)) is not None:
            return store.delete_object(*match.groups())
        fixed: dict[str, Callable[[], Any]] = {
            "POST /runs": lambda: store.create_run(json.loads(body)),
            "GET /runs": lambda: self._list_runs(query),
            "POST /experiments": lambda: store.add_experiment(json.loads(body)),
            "GET /experiments": lambda: page(_in_namespace(store.listed(), query), "experiments", query),
            "GET /pipelines": lambda: page(_in_namespace(list(store.pipelines.values()), query), "pipelines", query),
            "POST /pipelines/upload": lambda: store.upload_pipeline(
                query["name"], _file(body), query.get("namespace", "")
            ),
            "POST /pipelines/upload_version": lambda: store.upload_version(
                query["pipelineid"], query["name"], _file(body)
            ),
            "GET /healthz": lambda: _HEALTH | {"multi_user": store.settings.multi_user},
        }
        handler = fixed.get(f"{method} {path.removeprefix('/apis/v2beta1')}")
        if handler is None:
            raise KfpError(404, 5, "Not Found")
        return handler()

    def _list_runs(self, query: dict[str, str]) -> dict[str, Any]:
        """Reply with a page of runs, then let them change as after a GET of each."""
        store, experiment, namespace = self.server.store, query.get("experiment_id"), query.get("namespace")
        if store.settings.multi_user and experiment is None and namespace is None:
            raise KfpError(400, 3, "Invalid input error: a namespace is required in multi-user mode")
        listed = [
            store.shown(run)
            for run in store.runs.values()
            if experiment in (None, run.experiment)
            and namespace in (None, store.experiments[run.experiment].get("namespace", ""))
        ]
        reply = page(listed, "runs", query)
        for row in reply.get("runs", ()):
            store.observe(row["run_id"])
        return reply

    def _run(self, method: str, run_id: str, action: str | None) -> Any:
        store = self.server.store
        if method == "DELETE":
            return store.delete(run_id)
        if action is None:
            return store.observe(run_id)
        return {"terminate": store.terminate, "retry": store.retry, "archive": store.archive}[action](run_id)

    def _reply(self, status: int, reply: Any) -> None:
        is_text = isinstance(reply, str)
        data = reply.encode() if is_text else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the parent
        """Suppress the request log."""


def _in_namespace(items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    namespace = query.get("namespace")
    return [item for item in items if namespace in (None, item.get("namespace"))]


def _file(body: bytes) -> bytes:
    """Return the only part of a multipart body."""
    match = _FILE.search(body)
    if match is None:
        raise KfpError(400, 3, "Failed to upload pipeline: the form has no file")
    return match[1]


@contextmanager
def serve_kfp(settings: KfpServerSettings | None = None) -> Iterator[KfpServer]:
    """Serve an empty Kubeflow Pipelines until the block is left."""
    with KfpServer(KfpStore(settings)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
