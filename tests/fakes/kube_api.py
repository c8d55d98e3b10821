"""A fake Kubernetes API server over HTTP, for clients in this process and in others.

It stores objects, and serves gets, lists, watches, creations, applies, merge patches and deletions. It validates and
admits nothing, and has one field manager: an apply replaces the fields that its manifest has.
"""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import Configuration

from windlass.kube.client import KubeClient
from windlass.kube.objects import Kind, Object, Ref

_WATCH_SECONDS = 0.5
"""How long a watch waits for events before it looks whether the server stops."""


class _Event(NamedTuple):
    version: int
    type: str
    object: Object


class ApiError(Exception):
    """A response with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def plural(kind: Kind) -> str:
    """Return the plural of a kind."""
    return kind.kind.lower() + "s"


class KubeApi:
    """The objects, and all their events. Thread-safe."""

    def __init__(self, kinds: Collection[Kind], cluster_scoped: Collection[Kind] = ()) -> None:
        self.kinds = {kind: kind not in cluster_scoped for kind in kinds}
        """Whether a kind is namespaced."""
        self.created: Counter[Ref] = Counter()
        self.objects: dict[Ref, Object] = {}
        self.changed = threading.Condition()
        self.closing = False
        self.version = 1
        self.events: list[_Event] = []

    def of_kind(self, kind: Kind) -> list[Object]:
        """Return the objects of a kind, in the order of their creation."""
        with self.changed:
            return [live for ref, live in self.objects.items() if ref.kind == kind]

    def create(self, manifest: Object) -> Object:
        """Create an object.

        Raises:
            ApiError: it exists.
        """
        ref = Ref.of(manifest)
        with self.changed:
            if ref in self.objects:
                raise ApiError(409, f"{ref} already exists")
            self.created[ref] += 1
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": stamp, "generation": 1}
            return self._store("ADDED", manifest | {"metadata": manifest["metadata"] | metadata})

    def apply(self, manifest: Object) -> Object:
        """Create an object, or replace its labels, annotations and fields."""
        ref = Ref.of(manifest)
        with self.changed:
            live = self.objects.get(ref)
            if live is None:
                return self.create(manifest)
            return self._update(live, live | manifest | {"metadata": live["metadata"] | manifest["metadata"]})

    def patch(self, ref: Ref, fields: Object) -> Object:
        """Merge fields into an object (RFC 7386).

        Raises:
            ApiError: it does not exist, or the fields name another version.
        """
        with self.changed:
            live = self.get(ref)
            if fields.get("metadata", {}).get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
                raise ApiError(409, f"{ref} has been modified")
            return self._update(live, _merged(live, fields))

    def get(self, ref: Ref) -> Object:
        """Return an object.

        Raises:
            ApiError: it does not exist.
        """
        with self.changed:
            if ref not in self.objects:
                raise ApiError(404, f"{ref} not found")
            return self.objects[ref]

    def delete(self, ref: Ref, uid: str | None = None) -> Object:
        """Delete an object and what it owns.

        Raises:
            ApiError: it does not exist, or has another uid.
        """
        with self.changed:
            live = self.get(ref)
            if uid not in (None, live["metadata"]["uid"]):
                raise ApiError(409, f"{ref} has another uid")
            del self.objects[ref]
            self._emit("DELETED", live)
            for owned, each in list(self.objects.items()):
                owners = each["metadata"].get("ownerReferences", ())
                if any(owner["uid"] == live["metadata"]["uid"] for owner in owners):
                    self.delete(owned)
            return live

    def _update(self, live: Object, changed: Object) -> Object:
        if changed == live:
            return live
        generation = live["metadata"]["generation"] + (changed.get("spec") != live.get("spec"))
        return self._store("MODIFIED", changed | {"metadata": changed["metadata"] | {"generation": generation}})

    def _store(self, event: str, subject: Object) -> Object:
        stored = self._emit(event, subject)
        self.objects[Ref.of(stored)] = stored
        return stored

    def _emit(self, event: str, subject: Object) -> Object:
        self.version += 1
        emitted = subject | {"metadata": subject["metadata"] | {"resourceVersion": str(self.version)}}
        self.events.append(_Event(self.version, event, emitted))
        self.changed.notify_all()
        return emitted

    def events_after(self, version: int) -> list[_Event]:
        """Return the events after a version; wait for a moment if there are none."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version or self.closing, _WATCH_SECONDS)
            return self.events[version - self.version :] if version < self.version else []


def _merged(target: Any, fields: Any) -> Any:
    if not isinstance(fields, dict):
        return fields
    base = target if isinstance(target, dict) else {}
    merged = base | {name: _merged(base.get(name), value) for name, value in fields.items()}
    return {name: value for name, value in merged.items() if value is not None}


class _Selector(NamedTuple):
    """What a list or watch selects."""

    kind: Kind
    namespace: str | None
    labels: str

    def matches(self, subject: Object) -> bool:
        metadata = subject["metadata"]
        if Kind.of(subject) != self.kind or self.namespace not in (None, metadata.get("namespace")):
            return False
        return all(_has(metadata.get("labels") or {}, part) for part in self.labels.split(",") if part)


def _has(labels: Mapping[str, str], requirement: str) -> bool:
    if requirement.startswith("!"):
        return requirement[1:] not in labels
    name, equals, value = requirement.partition("=")
    return labels.get(name) == value if equals else name in labels


class _Target(NamedTuple):
    """The kind, or the object, of a path."""

    kind: Kind
    namespace: str | None
    name: str | None

    @property
    def ref(self) -> Ref:
        if self.name is None:
            raise ApiError(405, "the path names no object")
        return Ref(self.kind, self.name, self.namespace)


class KubeApiServer(ThreadingHTTPServer):
    """Serves a ``KubeApi`` on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, api: KubeApi) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def client(self, **options: Any) -> KubeClient:
        """Return a client of this server."""
        configuration = Configuration()
        configuration.host = self.url
        return KubeClient(configuration, **options)


class _Handler(BaseHTTPRequestHandler):
    server: KubeApiServer
    disable_nagle_algorithm = True  # a reply is written in two parts, and the second would wait for 40 ms
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_POST(self) -> None:
        self._answer(lambda: (201, self.server.api.create(self._body())))

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, handle: Any) -> None:
        try:
            answer = handle()
        except ApiError as error:
            answer = error.status, {"kind": "Status", "message": str(error), "code": error.status}
        if answer is not None:
            self._json(*answer)

    def _read(self) -> tuple[int, Object] | None:
        url, api = urlsplit(self.path), self.server.api
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        root = url.path.split("/")
        version = "/".join(root[2:]) if root[1] in ("api", "apis") else ""
        if served := [kind for kind in api.kinds if kind.api_version == version]:
            resources = [{"name": plural(kind), "kind": kind.kind, "namespaced": api.kinds[kind]} for kind in served]
            return 200, {"resources": resources}
        target = self._target()
        if target.name is not None:
            return 200, api.get(target.ref)
        selector = _Selector(target.kind, target.namespace, query.get("labelSelector", ""))
        if "watch" in query:
            self._watch(selector, int(query["resourceVersion"]))
            return None
        with api.changed:
            items = [live for live in api.objects.values() if selector.matches(live)]
            return 200, {"metadata": {"resourceVersion": str(api.version)}, "items": items}

    def _patch(self) -> tuple[int, Object]:
        api, body = self.server.api, self._body()
        if self.headers["Content-Type"].startswith("application/apply-patch"):
            return 200, api.apply(body)
        return 200, api.patch(self._target().ref, body)

    def _delete(self) -> tuple[int, Object]:
        uid = (self._body().get("preconditions") or {}).get("uid")
        return 200, self.server.api.delete(self._target().ref, uid)

    def _target(self) -> _Target:
        parts = [part for part in urlsplit(self.path).path.split("/") if part]
        version_parts = 1 if parts[0] == "api" else 2
        version, rest = "/".join(parts[1 : 1 + version_parts]), parts[1 + version_parts :]
        namespace = None
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        for kind in self.server.api.kinds:
            if kind.api_version == version and rest and plural(kind) == rest[0]:
                return _Target(kind, namespace, rest[1] if len(rest) > 1 else None)
        raise ApiError(404, f"{self.path} is not served")

    def _body(self) -> Object:
        body: Object = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        return body

    def _json(self, status: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, selector: _Selector, version: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.server.api.closing:
                for event in self.server.api.events_after(version):
                    version = event.version
                    if selector.matches(event.object):
                        self._chunk({"type": event.type, "object": event.object})
        except OSError:
            self.close_connection = True

    def _chunk(self, line: Object) -> None:
        data = json.dumps(line).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the parent
        """Suppress the request log."""


@contextmanager
def serve_kube_api(kinds: Collection[Kind], cluster_scoped: Collection[Kind] = ()) -> Iterator[KubeApiServer]:
    """Serve a cluster without objects until the block is left."""
    with KubeApiServer(KubeApi(kinds, cluster_scoped)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.api.closing = True
            server.shutdown()
