"""A dynamic client for Kubernetes objects of any kind, as JSON: get, list, watch, create, apply, patch, delete.

The package ``kubernetes`` loads the configuration and authenticates (files, environment, plugins). Paths and bodies
follow the API conventions (https://kubernetes.io/docs/reference/using-api/api-concepts/).
"""

import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import orjson
import urllib3
from kubernetes import client as upstream
from kubernetes import config as loading

from windlass.kube.errors import (
    KubeApiError,
    KubeForbiddenError,
    KubeNotFoundError,
    KubeUnavailableError,
    NoKindMatchError,
    error_of,
)
from windlass.kube.objects import Kind, Object, ObjectList, Ref
from windlass.kube.stream import WatchStream

PAGE: Final = 500
"""Page size of lists."""
_CONNECT, _READ, _WATCH = 5.0, 30.0, 300
_APPLY: Final = "application/apply-patch+yaml"  # JSON is valid YAML
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json"


class _Served(NamedTuple):
    plural: str
    namespaced: bool


def _unguarded() -> None:
    """Allow every write."""


class KubeClient:
    """Client of one API server. Thread-safe.

    ``guard`` is called before every write and raises to prevent it, as without leadership. ``observe`` is called with
    method and status of every response. ``timeout``: read timeout in seconds.
    """

    def __init__(
        self,
        configuration: upstream.Configuration,
        *,
        guard: Callable[[], None] = _unguarded,
        observe: Callable[[str, int], None] | None = None,
        impersonate: str | None = None,
        timeout: float = _READ,
    ) -> None:
        self._api = upstream.ApiClient(configuration)
        self._pool: urllib3.PoolManager = self._api.rest_client.pool_manager
        self._host: str = configuration.host
        self._guard = guard
        self._observe = observe
        self._timeout = timeout
        self._headers = {"User-Agent": "windlass", "Accept": _JSON}
        if impersonate:
            self._headers["Impersonate-User"] = impersonate
        self._served: dict[Kind, _Served] = {}

    def read(self, path: str) -> Object:
        """Return the JSON at a path, for responses that are not objects of a kind.

        Raises:
            KubeNotFoundError: the path does not exist.
        """
        return self._call("GET", quote(path), f"read {path}")

    def get(self, ref: Ref) -> Object:
        """Return an object.

        Raises:
            KubeNotFoundError: it does not exist.
        """
        return self._call("GET", self._path(ref.kind, ref.namespace, ref.name), f"get {ref}")

    def find(self, ref: Ref) -> Object | None:
        """Return an object, None if it does not exist or its kind is not served."""
        try:
            return self.get(ref)
        except KubeNotFoundError:
            return None

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "") -> ObjectList:
        """Return all objects of a kind, of one namespace or of all, as one consistent list.

        Raises:
            NoKindMatchError: the kind is not served, or not any more.
        """
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(PAGE)}
        items: list[Object] = []
        while True:
            page = self._page(kind, namespace, query)
            # items of a list omit apiVersion and kind
            items += [{"apiVersion": kind.api_version, "kind": kind.kind} | item for item in page.get("items") or ()]
            if not (more := page["metadata"].get("continue")):
                return ObjectList(items, page["metadata"].get("resourceVersion", ""))
            query["continue"] = more

    def _page(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Object:
        try:
            return self._call("GET", self._path(kind, namespace), f"list {kind}", query)
        except NoKindMatchError:
            raise
        except KubeNotFoundError as missing:
            raise self._unknown(kind, missing) from missing

    def _unknown(self, kind: Kind, missing: KubeNotFoundError) -> NoKindMatchError:
        """Drop a kind that is not served any more from the discovery cache."""
        self._served.pop(kind, None)
        return NoKindMatchError(missing.message, status=404)

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        seconds: int = _WATCH,
        idle_timeout: float | None = None,
    ) -> WatchStream:
        """Watch for changes after ``resource_version``, for at most ``seconds``, with bookmarks.

        ``idle_timeout``: seconds without data after which the stream raises WatchTimeoutError.

        Raises:
            ResourceExpiredError: ``resource_version`` is too old; list again. Raised here or by the stream.
            NoKindMatchError: the kind is not served, or not any more.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resource_version}
        query |= {"labelSelector": labels, "timeoutSeconds": str(seconds)}
        what, path = f"watch {kind}", self._path(kind, namespace)
        try:
            response = self._send("GET", path, what, query, read=idle_timeout or seconds + _READ, stream=True)
        except KubeNotFoundError as missing:
            raise self._unknown(kind, missing) from missing
        return WatchStream(what, response)

    def create(self, manifest: Object, *, manager: str, dry_run: bool = False) -> Object:
        """Create an object.

        Raises:
            KubeConflictError: an object of this name exists.
        """
        ref = Ref.of(manifest)
        query = {"fieldManager": manager} | _dry(dry_run)
        return self._write("POST", self._path(ref.kind, ref.namespace), f"create {ref}", query, manifest, _JSON)

    def apply(
        self, manifest: Object, *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> Object:
        """Apply ``manifest`` (server-side apply) and return the resulting object.

        Fields that ``manager`` applied before and ``manifest`` omits are removed. With a ``metadata.uid`` only that
        object is updated and none is created.

        Raises:
            KubeConflictError: another manager owns a field and ``force`` is not set, or the uid differs.
        """
        ref = Ref.of(manifest)
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"} | _dry(dry_run)
        path = self._path(ref.kind, ref.namespace, ref.name, subresource)
        return self._write("PATCH", path, f"apply {ref}", query, manifest, _APPLY)

    def patch(self, ref: Ref, fields: Object, *, manager: str, subresource: str = "") -> Object:
        """Merge ``fields`` into an object (RFC 7386), with a ``metadata.resourceVersion`` only into that version."""
        path = self._path(ref.kind, ref.namespace, ref.name, subresource)
        return self._write("PATCH", path, f"patch {ref}", {"fieldManager": manager}, fields, _MERGE)

    def replace(self, manifest: Object, *, manager: str) -> Object:
        """Replace an object.

        Raises:
            KubeConflictError: the manifest's ``metadata.resourceVersion`` is not the current one.
        """
        ref = Ref.of(manifest)
        path = self._path(ref.kind, ref.namespace, ref.name)
        return self._write("PUT", path, f"replace {ref}", {"fieldManager": manager}, manifest, _JSON)

    def delete(
        self,
        ref: Ref,
        *,
        uid: str | None = None,
        version: str | None = None,
        dry_run: bool = False,
        foreground: bool = False,
        grace_seconds: int | None = None,
    ) -> bool:
        """Delete an object, and its dependents in the background; False if it does not exist.

        ``foreground``: the object exists until its dependents are deleted. ``grace_seconds`` replaces the time that a
        pod has to end by itself.

        Raises:
            KubeConflictError: ``uid`` or ``version`` (its resourceVersion) is given, and the object has another one.
        """
        policy = "Foreground" if foreground else "Background"
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy}
        preconditions = {"uid": uid, "resourceVersion": version}
        if required := {name: value for name, value in preconditions.items() if value}:
            body["preconditions"] = required
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        path = self._path(ref.kind, ref.namespace, ref.name)
        try:
            self._write("DELETE", path, f"delete {ref}", _dry(dry_run), body, _JSON)
        except KubeNotFoundError:
            return False
        return True

    def serves(self, kind: Kind) -> bool:
        """Return whether the API server serves the kind."""
        try:
            self._resource(kind)
        except NoKindMatchError:
            return False
        return True

    def _resource(self, kind: Kind) -> _Served:
        """Return plural and scope of a kind by discovery; only served kinds are cached."""
        if kind not in self._served:
            path = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
            try:
                resources = self._call("GET", path, f"discover {kind.api_version}")["resources"]
            except KubeNotFoundError as missing:
                raise NoKindMatchError(
                    f"{kind}: the cluster does not serve {kind.api_version}", status=404
                ) from missing
            for resource in resources:
                if "/" not in resource["name"]:
                    served = _Served(resource["name"], resource["namespaced"])
                    self._served[Kind(kind.api_version, resource["kind"])] = served
        if kind not in self._served:
            raise NoKindMatchError(f"{kind}: the cluster does not serve it in {kind.api_version}", status=404)
        return self._served[kind]

    def _path(self, kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
        served = self._resource(kind)
        root = f"/apis/{kind.api_version}" if "/" in kind.api_version else f"/api/{kind.api_version}"
        prefix = ["namespaces", namespace] if served.namespaced and namespace else []
        parts = [*prefix, served.plural, name, subresource]
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
        response = self._send(method, path, what, query or {}, body, kind)
        return _parse(what, response.data)

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
        # reloads the service account's token after the kubelet has rotated it
        try:
            self._api.update_params_for_auth(headers, [], ["BearerToken"])
        except (OSError, loading.ConfigException) as error:
            raise KubeUnavailableError(f"{what}: the service account token cannot be read: {error}") from error
        parameters = urlencode({name: value for name, value in query.items() if value})
        try:
            response = self._pool.request(
                method,
                f"{self._host}{path}{'?' + parameters if parameters else ''}",
                body=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=min(_CONNECT, self._timeout), read=read or self._timeout),
                retries=False,
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise KubeUnavailableError(f"{what}: the API server cannot be reached: {error}") from error
        if self._observe:
            self._observe(method, response.status)
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(what, response.status, _status(response.data), response.headers.get("Retry-After"))
        return response


def load_configuration(kubeconfig: Path | None = None) -> upstream.Configuration:
    """Load the configuration from the given file, else the pod's service account, else ``KUBECONFIG``.

    Raises:
        KubeForbiddenError: there is no configuration.
    """
    configuration = upstream.Configuration()
    try:
        if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            loading.load_incluster_config(client_configuration=configuration)
        else:
            file = str(kubeconfig) if kubeconfig else None
            loading.load_kube_config(config_file=file, client_configuration=configuration, persist_config=False)
    except loading.ConfigException as error:
        raise KubeForbiddenError(
            f"no access to a cluster: {error}; set KUBECONFIG, or run in a pod with a service account"
        ) from error
    return configuration


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _parse(what: str, data: bytes) -> Object:
    try:
        parsed: Object = orjson.loads(data)
    except ValueError as error:
        raise KubeApiError(f"{what}: the response is not JSON") from error
    return parsed


def _status(data: bytes) -> Object:
    """Parse the metav1.Status of an error response; empty if a proxy sent something else."""
    try:
        parsed = orjson.loads(data)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
