"""Endpoints of a cluster: the control plane writes ModelEndpoints, the operators create RayServices (ADR 0046)."""

import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import UnavailableError
from windlass.domain.jobs import ActionOwner, Reason
from windlass.kit.ca_bundle import ca_bundle_files
from windlass.kube.cache.informer import InformerHandlers, SharedInformer, WatchTarget, WatchTimings
from windlass.kube.cache.store import Store
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeApiError, KubeConflictError
from windlass.kube.jobs.pod_spec import owned_secret
from windlass.kube.kinds import ENDPOINT, POD, RAY_SERVICE
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.names import CONTROL_PLANE_LABEL, ENDPOINT_LABEL, SERVICE_LABEL, labels, namespace_of
from windlass.kube.objects import Object, Ref
from windlass.kube.resources.model_endpoint import HeadResources, ModelEndpointSpec, ReplicaResources, ServedVersion
from windlass.kube.serving.cache import transform
from windlass.kube.serving.names import credentials_of, service_of
from windlass.kube.serving.resizing import resized
from windlass.kube.serving.status import ObservedVersion, app_status, endpoint_problem, terminating_status
from windlass.serving.environment import AUTHORIZATION_FILE, TOKEN_FILE

_MANAGER: Final = "windlass-worker"
_SECRET_SECONDS: Final = 3600.0
"""An unchanged Secret is applied again after this time, in case it was deleted."""
_SYNC_SECONDS: Final = 30.0
_FIRST_STATUS_SECONDS: Final = 5.0
"""How long callers of ``status`` wait for the watches of a new process, which knows no model server yet."""
_log = logging.getLogger(__name__)


class ServingCredentials(Protocol):
    """Derives the credentials of model servers. They are stable, so that every replica of the API knows them."""

    def authorization(self, key: str) -> str:
        """Return the header that the model servers of an application require."""
        ...

    def token(self, endpoint: str, artifact_uri: str) -> str:
        """Return the token with which replicas of an endpoint fetch an artifact; it may change when it expires."""
        ...


@dataclass(frozen=True)
class ServingSettings:
    """The installation's settings for model servers."""

    control_plane: str
    """Id of the control plane: it changes and deletes no ModelEndpoint of another one."""
    image: str
    ray_version: str
    internal_url: str
    replica: ReplicaResources
    head: HeadResources

    def of_pods(self) -> tuple[str, ...]:
        """Return what requires new pods when it changes."""
        resources = (self.replica.model_dump_json(), self.head.model_dump_json())
        return self.image, self.ray_version, self.internal_url, *resources


_EndpointKey = tuple[str, str]
"""Names of project and endpoint."""


class _Problem(NamedTuple):
    """Why an endpoint was not written, and its applications."""

    reason: Reason
    apps: tuple[str, ...]


class _Applied(NamedTuple):
    digest: str
    at: float


class _NotOwnedError(Exception):
    """The ModelEndpoint of this name is not of this control plane."""

    def __init__(self, ref: Ref) -> None:
        super().__init__(str(ref))
        self.reason = Reason(
            code="endpoint_not_owned",
            message=f"{ref} exists, and this control plane has not created it",
            action_by=ActionOwner.ADMIN,
            action=f"delete it: kubectl delete modelendpoint -n {ref.namespace} {ref.name}",
        )


class KubernetesServing:
    """Implements ``ports.ServingBackend``. Thread-safe.

    ``apply`` is called by the leader of the workers, and the guard of ``client`` rejects the writes of the others.
    ``status`` is called by every process of the control plane. The watches start with the first use.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: ServingSettings,
        credentials: ServingCredentials,
        timings: WatchTimings | None = None,
    ) -> None:
        self._client, self._settings, self._credentials = client, settings, credentials
        self._store, self._timings = Store(transform), timings or WatchTimings()
        self._synced = threading.Event()
        targets = [WatchTarget(ENDPOINT), WatchTarget(RAY_SERVICE, ENDPOINT_LABEL), WatchTarget(POD, SERVICE_LABEL)]
        handlers = InformerHandlers(on_change=lambda _: None, on_sync=lambda _: self._synced.set())
        self._informer = SharedInformer(client, self._store, targets, handlers, self._timings)
        self._lock = threading.Lock()
        self._started_at: float | None = None
        self._secrets: dict[Ref, _Applied] = {}
        self._problems: dict[_EndpointKey, _Problem] = {}
        self._computed: tuple[object, ServingStatus] | None = None

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Write a ModelEndpoint for each endpoint that has applications, and delete the others of this control plane.

        An endpoint that the API server rejects, or that is not of this control plane, has the reason in its status; the
        others are written.

        Raises:
            NotLeaderError: another worker is the leader.
            UnavailableError: the API server cannot be reached.
        """
        self._ensure_synced()
        by_endpoint: defaultdict[_EndpointKey, list[ServedApp]] = defaultdict(list)
        for app in apps:
            by_endpoint[app.project, app.endpoint].append(app)
        problems: dict[_EndpointKey, _Problem] = {}
        applied, self._secrets = self._secrets, {}
        for key, endpoint_apps in by_endpoint.items():
            keys = tuple(app.key for app in endpoint_apps)
            try:
                self._apply_endpoint(key, endpoint_apps, applied)
            except _NotOwnedError as error:
                problems[key] = _Problem(error.reason, keys)
            except KubeApiError as error:
                if error.retryable:
                    raise UnavailableError(error.message, hint="the control plane retries automatically") from error
                rejected = Reason(code="service_rejected", message=error.message, action_by=ActionOwner.ADMIN)
                problems[key] = _Problem(rejected, keys)
        self._problems = problems
        self._delete_others(set(by_endpoint))

    def status(self) -> ServingStatus:
        """Return the status as observed by the watches; waits for them for some seconds after the start."""
        started = self._ensure_started()
        if not self._wait_for_sync(started + _FIRST_STATUS_SECONDS):
            return ServingStatus(complete=False)
        watches = self._informer.status()
        revisions = tuple(self._store.revision(kind) for kind in (ENDPOINT, RAY_SERVICE, POD))
        version = (revisions, self._problems)
        if self._computed is None or self._computed[0] != version:
            self._computed = version, self._observe()
        # A watch without data is stale: what it does not list may run.
        fresh = all(watch.idle_seconds <= 2 * self._timings.idle_timeout for watch in watches.values())
        return self._computed[1] if fresh else self._computed[1].model_copy(update={"complete": False})

    def stop(self) -> None:
        """Stop the watches. The model servers go on serving."""
        with self._lock:
            if self._started_at is not None:
                self._informer.stop()

    def _apply_endpoint(self, key: _EndpointKey, apps: Sequence[ServedApp], applied: Mapping[Ref, _Applied]) -> None:
        project, endpoint = key
        ref = Ref(ENDPOINT, endpoint, namespace_of(project))
        # the watch may not have reported one that another control plane has just created
        live = self._store.get(ref) or self._client.find(ref)
        if live is not None and not self._owns(live):
            raise _NotOwnedError(ref)
        spec = self._spec(key, apps, live)
        if live is None or live["metadata"].get("deletionTimestamp") or live.get("spec") != spec:
            live = self._client.apply(self._manifest(ref, project, spec), manager=_MANAGER, force=True)
            self._store.put(live)
        for app in apps:
            for version in spec["versions"]:
                if version["key"] == app.key:
                    self._apply_secret(live, app, version["service"], applied)

    def _spec(self, key: _EndpointKey, apps: Sequence[ServedApp], live: Object | None) -> Object:
        """Return the spec: the applications with the current image, and with an earlier one until that serves."""
        before = _versions(live) if live is not None else ()
        versions: list[ServedVersion] = []
        for app in apps:
            gpus = (str(app.gpus), app.pool) if app.pool is not None else ()
            service = service_of(app.endpoint, app.key, *self._settings.of_pods(), *gpus)
            revisions = [version for version in before if version.key == app.key]
            current = next((version for version in revisions if version.service == service), None)
            replicas = _replicas(app, current or next(iter(revisions), None))
            desired = _served_version(app, service, self._settings, replicas)
            observed = self._observed(desired, namespace_of(app.project))
            versions.append(desired if current is None else resized(desired, current, observed))
            if replicas and not observed.serves:
                versions += [version for version in revisions if version.service != service]
        project, endpoint = key
        spec = ModelEndpointSpec(
            project=project,
            endpoint=endpoint,
            versions=tuple(versions),
            internal_url=self._settings.internal_url,
            resources=self._settings.replica,
            head=self._settings.head,
        )
        return spec.wire()

    def _apply_secret(self, owner: Object, app: ServedApp, service: str, applied: Mapping[Ref, _Applied]) -> None:
        files = {
            AUTHORIZATION_FILE: self._credentials.authorization(app.key),
            TOKEN_FILE: self._credentials.token(app.endpoint, app.artifact_uri),
            **ca_bundle_files(),
        }
        # not immutable: tokens expire
        manifest = owned_secret(credentials_of(service), files, owner) | {"immutable": False}
        ref, now = Ref.of(manifest), time.monotonic()
        digest = hashlib.sha256(f"{owner['metadata']['uid']}{files}".encode()).hexdigest()
        before = applied.get(ref)
        if before is None or before.digest != digest or now - before.at > _SECRET_SECONDS:
            self._client.apply(manifest, manager=_MANAGER, force=True)
            before = _Applied(digest, now)
        self._secrets[ref] = before

    def _manifest(self, ref: Ref, project: str, spec: Object) -> Object:
        all_labels = labels(project) | {CONTROL_PLANE_LABEL: self._settings.control_plane}
        return {
            "apiVersion": ENDPOINT.api_version,
            "kind": ENDPOINT.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "labels": all_labels},
            "spec": spec,
        }

    def _owns(self, endpoint: Object) -> bool:
        all_labels = endpoint["metadata"].get("labels") or {}
        return bool(all_labels.get(CONTROL_PLANE_LABEL) == self._settings.control_plane)

    def _delete_others(self, desired: set[_EndpointKey]) -> None:
        names = {(namespace_of(project), endpoint) for project, endpoint in desired}
        for live in self._store.all(ENDPOINT):
            metadata = live["metadata"]
            is_desired = (metadata["namespace"], metadata["name"]) in names
            if is_desired or not self._owns(live) or metadata.get("deletionTimestamp"):
                continue
            try:
                self._client.delete(Ref.of(live), uid=metadata["uid"])
            except KubeConflictError:
                continue  # another object has this name now
            except KubeApiError as error:
                raise UnavailableError(error.message) from error
            self._store.delete_finally(live)

    def _observe(self) -> ServingStatus:
        apps: dict[str, AppStatus] = {}
        desired: set[tuple[str, str]] = set()
        complete = True
        for endpoint in self._store.all(ENDPOINT):
            if endpoint["metadata"].get("deletionTimestamp") or not self._owns(endpoint):
                continue
            namespace = endpoint["metadata"]["namespace"]
            versions = _versions(endpoint)
            desired |= {(namespace, version.service) for version in versions}
            spec, status = endpoint["spec"], endpoint.get("status") or {}
            # until the operators have seen the spec, RayServices of an earlier one may still be created
            complete = complete and status.get("observedGeneration") == endpoint["metadata"].get("generation")
            rejected = self._problems.get((spec["project"], spec["endpoint"]))
            problem = rejected.reason if rejected is not None else endpoint_problem(endpoint)
            for key in dict.fromkeys(version.key for version in versions):
                revisions = [self._observed(version, namespace) for version in versions if version.key == key]
                headers = {"Authorization": self._credentials.authorization(key)}
                apps[key] = app_status(revisions, problem).model_copy(update={"headers": headers})
        for reason, keys in self._problems.values():
            for key in keys:  # of an endpoint that could not be created, or with a new application
                waiting = AppStatus(key=key, state=AppState.DEPLOYING, message=reason.message, waits=reason)
                apps.setdefault(key, waiting)
        for service in self._store.all(RAY_SERVICE):
            if (service["metadata"]["namespace"], service["metadata"]["name"]) not in desired:
                status_of_removed = terminating_status(service)
                if status_of_removed is not None:
                    apps.setdefault(status_of_removed.key, status_of_removed)
        return ServingStatus(apps=tuple(apps.values()), complete=complete)

    def _observed(self, version: ServedVersion, namespace: str) -> ObservedVersion:
        service = self._store.get(Ref(RAY_SERVICE, version.service, namespace))
        if service is not None and service["metadata"].get("deletionTimestamp"):
            service = None  # scaled to zero meanwhile; it is created again
        pods = [
            pod
            for pod in self._store.by_label(POD, SERVICE_LABEL, version.service)
            if pod["metadata"]["namespace"] == namespace
        ]
        return ObservedVersion(version, namespace, service, Pod.parse_all(pods))

    def _ensure_started(self) -> float:
        """Start the watches unless they run; returns when they were started, on the monotonic clock."""
        with self._lock:
            if self._started_at is None:
                self._informer.start()
                self._started_at = time.monotonic()
            return self._started_at

    def _ensure_synced(self) -> None:
        self._ensure_started()
        if not self._wait_for_sync(time.monotonic() + _SYNC_SECONDS):
            errors = "; ".join(watch.error for watch in self._informer.status().values() if watch.error)
            raise UnavailableError(f"the model servers of the cluster cannot be listed: {errors}")

    def _wait_for_sync(self, deadline: float) -> bool:
        """Return whether every watch has listed its objects, at the latest at the deadline."""
        while not all(watch.synced for watch in self._informer.status().values()):
            if time.monotonic() > deadline:
                return False
            self._synced.wait(0.1)
            self._synced.clear()
        return True


def _versions(endpoint: Object) -> tuple[ServedVersion, ...]:
    return ModelEndpointSpec.model_validate(endpoint["spec"], extra="ignore").versions


def _replicas(app: ServedApp, current: ServedVersion | None) -> int:
    """Return the number of replicas now; an application starts with the fewest ones, but at least one."""
    number = app.desired_replicas
    if number is None:
        number = max(1, app.replicas.min) if current is None else current.replicas
    return max(app.replicas.min, min(number, app.replicas.max))


def _served_version(app: ServedApp, service: str, settings: ServingSettings, replicas: int) -> ServedVersion:
    return ServedVersion(
        service=service,
        key=app.key,
        task=app.task,
        model=app.model_name,
        uri=app.artifact_uri,
        digest=app.digest,
        image=settings.image,
        ray_version=settings.ray_version,
        replicas=replicas,
        max_batch_size=app.max_batch_size,
        batch_wait_ms=app.batch_wait_ms,
        gpus=app.gpus,
        pool=app.pool,
    )
