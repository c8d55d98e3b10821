"""A typed client of the API server for objects of any kind, as JSON: get, list, watch, create, apply, patch, delete.

The package ``kubernetes`` knows how to find the server and how to prove who we are (files, environment, plugins). Paths
and bodies follow the API conventions (https://kubernetes.io/docs/reference/using-api/api-concepts/), one for all kinds.
"""

import json
import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client as upstream
from kubernetes import config as loading

from windlass.kube.errors import (
    ClusterError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
    UnknownKindError,
    error_of,
)
from windlass.kube.objects import Kind, Listing, Object, Ref
from windlass.kube.stream import Stream

PAGE: Final = 500
"""Objects of one page of a list."""
_CONNECT, _READ, _WATCH = 5.0, 30.0, 300
_APPLY: Final = "application/apply-patch+yaml"  # of which JSON is a part
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json"


class _Served(NamedTuple):
    plural: str
    namespaced: bool


def _unguarded() -> None:
    """Let every write pass."""


class Client:
    """Speaks to one API server. Threads may share it.

    ``guard`` runs before every write and raises to stop it: whoever writes under a lease checks it there.
    ``observe`` is told method and status of every answer. ``patience``: seconds to wait for an answer.
    """

    def __init__(
        self,
        configuration: upstream.Configuration,
        *,
        guard: Callable[[], None] = _unguarded,
        observe: Callable[[str, int], None] | None = None,
        impersonate: str | None = None,
        patience: float = _READ,
    ) -> None:
        self._api = upstream.ApiClient(configuration)
        self._pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        self._host: str = configuration.host
        self._guard = guard
        self._observe = observe
        self._patience = patience
        self._headers = {"User-Agent": "windlass", "Accept": _JSON}
        if impersonate:
            self._headers["Impersonate-User"] = impersonate
        self._served: dict[Kind, _Served] = {}

    def read(self, path: str) -> Object:
        """Return what stands at a path: for the few answers that are no objects of a kind.

        Raises:
            NotFoundError: nothing does.
        """
        return self._call("GET", quote(path), f"read {path}")

    def get(self, ref: Ref) -> Object:
        """Return an object.

        Raises:
            NotFoundError: it does not exist.
        """
        return self._call("GET", self._path(ref.kind, ref.namespace, ref.name), f"get {ref}")

    def find(self, ref: Ref) -> Object | None:
        """Return an object, None when it does not exist or its kind is not served."""
        try:
            return self.get(ref)
        except NotFoundError:
            return None

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "") -> Listing:
        """Return all objects of a kind, of one namespace or of all, read page by page from one moment.

        Raises:
            UnknownKindError: the kind is not served, or no longer: its definition may go while we run.
        """
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        items: list[Object] = []
        while True:
            page = self._page(kind, namespace, query)
            # a list's items do not repeat what they are
            items += [{"apiVersion": kind.api_version, "kind": kind.kind} | item for item in page.get("items") or ()]
            if not (more := page["metadata"].get("continue")):
                return Listing(items, page["metadata"].get("resourceVersion", ""))
            query["continue"] = more

    def _page(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Object:
        try:
            return self._call("GET", self._path(kind, namespace), f"list {kind}", query)
        except UnknownKindError:
            raise
        except NotFoundError as missing:
            raise self._unknown(kind, missing) from missing

    def _unknown(self, kind: Kind, missing: NotFoundError) -> UnknownKindError:
        """Forget a kind that was served once and no longer is."""
        self._served.pop(kind, None)
        return UnknownKindError(missing.message, status=404)

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        since: str,
        labels: str = "",
        seconds: int = _WATCH,
        silence: float | None = None,
    ) -> Stream:
        """Tell what changes after the version ``since``, for at most ``seconds``; bookmarks carry a newer version.

        ``silence``: seconds without a word after which the stream is given up.

        Raises:
            ExpiredError: ``since`` is too old; list again. Here or while the stream is read.
            UnknownKindError: the kind is not served, or no longer.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": since, "labelSelector": labels}
        query["timeoutSeconds"] = str(seconds)
        what, path = f"watch {kind}", self._path(kind, namespace)
        try:
            answer = self._send("GET", path, what, query, read=silence or seconds + _READ, stream=True)
        except NotFoundError as missing:
            raise self._unknown(kind, missing) from missing
        return Stream(what, answer)

    def create(self, wish: Object, *, manager: str, dry_run: bool = False) -> Object:
        """Create an object.

        Raises:
            ConflictError: one of this name exists.
        """
        ref = Ref.of(wish)
        query = {"fieldManager": manager} | _dry(dry_run)
        return self._write("POST", self._path(ref.kind, ref.namespace), f"create {ref}", query, wish, _JSON)

    def apply(
        self, wish: Object, *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> Object:
        """Apply the fields of ``wish`` on the server's side and return the whole object.

        Fields that ``manager`` applied before and ``wish`` lacks are removed. A ``metadata.uid`` in the wish makes sure
        that it is written to that very object and that none is made.

        Raises:
            ConflictError: another manager owns a field and ``force`` is not set, or the uid is another one.
        """
        ref = Ref.of(wish)
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"} | _dry(dry_run)
        path = self._path(ref.kind, ref.namespace, ref.name, subresource)
        return self._write("PATCH", path, f"apply {ref}", query, wish, _APPLY)

    def patch(self, ref: Ref, fields: Object, *, manager: str, subresource: str = "") -> Object:
        """Merge ``fields`` into an object (RFC 7386); with a ``metadata.resourceVersion`` only into that version."""
        path = self._path(ref.kind, ref.namespace, ref.name, subresource)
        return self._write("PATCH", path, f"patch {ref}", {"fieldManager": manager}, fields, _MERGE)

    def replace(self, wish: Object, *, manager: str) -> Object:
        """Replace an object.

        Raises:
            ConflictError: the ``metadata.resourceVersion`` of the wish is no longer the current one.
        """
        ref = Ref.of(wish)
        path = self._path(ref.kind, ref.namespace, ref.name)
        return self._write("PUT", path, f"replace {ref}", {"fieldManager": manager}, wish, _JSON)

    def delete(self, ref: Ref, *, uid: str | None = None, dry_run: bool = False) -> bool:
        """Delete an object and in the background what it owns; False when it was gone already.

        Raises:
            ConflictError: ``uid`` is given, and the object of this name is another one.
        """
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        path = self._path(ref.kind, ref.namespace, ref.name)
        try:
            self._write("DELETE", path, f"delete {ref}", _dry(dry_run), body, _JSON)
        except NotFoundError:
            return False
        return True

    def serves(self, kind: Kind) -> bool:
        """Tell whether the API server knows the kind."""
        try:
            self._resource(kind)
        except UnknownKindError:
            return False
        return True

    def _resource(self, kind: Kind) -> _Served:
        """Look the kind up among those that the server serves; only what was found is remembered."""
        if kind not in self._served:
            where = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
            try:
                found = self._call("GET", where, f"discover {kind.api_version}")["resources"]
            except NotFoundError as missing:
                raise UnknownKindError(
                    f"{kind}: the cluster does not serve {kind.api_version}", status=404
                ) from missing
            for one in found:
                if "/" not in one["name"]:
                    self._served[Kind(kind.api_version, one["kind"])] = _Served(one["name"], one["namespaced"])
        if kind not in self._served:
            raise UnknownKindError(f"{kind}: the cluster does not serve it in {kind.api_version}", status=404)
        return self._served[kind]

    def _path(self, kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
        served = self._resource(kind)
        root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
        within = ["namespaces", namespace] if served.namespaced and namespace else []
        parts = [*within, served.plural, name, subresource]
        return "/".join([root, *(quote(part, safe="") for part in parts if part)])

    def _write(self, method: str, path: str, what: str, query: Mapping[str, str], body: Object, kind: str) -> Object:
        self._guard()
        return self._call(method, path, what, query, body, kind)

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = _JSON,
    ) -> Object:
        answer = self._send(method, path, what, query or {}, body, kind)
        return _parsed(what, answer.data)

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        query: Mapping[str, str],
        body: Object | None = None,
        kind: str = _JSON,
        *,
        read: float | None = None,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._headers) | ({"Content-Type": kind} if body is not None else {})
        # a service account's token is read anew here when the kubelet has renewed it
        try:
            self._api.update_params_for_auth(headers, [], ["BearerToken"])
        except (OSError, loading.ConfigException) as wrong:
            raise UnavailableError(f"{what}: our token cannot be read: {wrong}") from wrong
        asked = urlencode({name: value for name, value in query.items() if value})
        try:
            answer = self._pool.request(
                method,
                f"{self._host}{path}{'?' + asked if asked else ''}",
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(_CONNECT, self._patience), read=read or self._patience),
                retries=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as broken:
            raise UnavailableError(f"{what}: the API server does not answer: {broken}") from broken
        if self._observe:
            self._observe(method, answer.status)
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(what, answer.status, _status(answer.data), answer.headers.get("Retry-After"))
        return answer


def load_configuration(kubeconfig: Path | None = None) -> upstream.Configuration:
    """Find the cluster: the given file, else the service account of the pod that we run in, else ``KUBECONFIG``.

    Raises:
        ForbiddenError: nothing says where the cluster is or who we are.
    """
    configuration = upstream.Configuration()
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            loading.load_incluster_config(client_configuration=configuration)
        else:
            file = str(kubeconfig) if kubeconfig else None
            loading.load_kube_config(config_file=file, client_configuration=configuration, persist_config=False)
    except loading.ConfigException as wrong:
        raise ForbiddenError(
            f"no access to a cluster: {wrong}; set KUBECONFIG, or run in a pod with an account"
        ) from wrong
    return configuration


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _parsed(what: str, data: bytes) -> Object:
    try:
        found: Object = json.loads(data)
    except ValueError as wrong:
        raise ClusterError(f"{what}: the answer is no JSON") from wrong
    return found


def _status(data: bytes) -> Object:
    """The Status object of a refusal; empty when a proxy answered with something else."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
