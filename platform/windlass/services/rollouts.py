"""Rolls endpoints out: applies the desired applications to the serving back end and updates each endpoint's status."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from windlass.domain.autoscaling import RequestLoad
from windlass.domain.endpoints import (
    AppState,
    AppStatus,
    Endpoint,
    EndpointSpec,
    EndpointState,
    LiveTarget,
    ProbeRequest,
    ReplicaRange,
    ServedApp,
    ServingStatus,
    TrafficTarget,
    app_key,
    app_key_prefix,
)
from windlass.domain.errors import InvalidError, PreconditionFailedError, WindlassError
from windlass.domain.jobs import ActionOwner, Reason
from windlass.domain.rollout import STARTING, advance, required_targets, requires_rollout
from windlass.ports import ReadProjectData, ReadUnitOfWork, ServingBackend
from windlass.services.autoscaling import Autoscaler
from windlass.services.base import WorkerDependencies
from windlass.services.endpoints import most_gpus, resolve


class Prober(Protocol):
    """Sends smoke tests without blocking the caller (``windlass.serving.probe.ProbePool``)."""

    def result(self, key: str, group: str, request: ProbeRequest) -> str | None:
        """Return the error of the probe ``key``, empty on success; start it if necessary, None until it has ended."""
        ...

    def retain(self, keys: Collection[str]) -> None:
        """Forget the results of all other probes."""
        ...

    def close(self) -> None:
        """Wait for the running probes; call it after the back end has stopped, which ends them."""
        ...


class ObservedReplicas(NamedTuple):
    """The replicas of the live applications of an endpoint."""

    project: str
    endpoint: str
    desired: int
    ready: int


@dataclass
class Rollouts:
    """Reconciles all endpoints with the serving back end; call ``step`` periodically."""

    deps: WorkerDependencies
    serving: ServingBackend
    prober: Prober
    timeout: timedelta
    autoscaler: Autoscaler | None = None
    """None where the back end scales applications itself."""
    observed: tuple[ObservedReplicas, ...] = field(default=(), init=False)
    """The replicas of all endpoints, as of the last step."""
    _listening_since: dict[str, datetime] = field(default_factory=dict, init=False)
    """By endpoint: since when this worker observes that the servers of its desired applications listen."""

    def mark_unobserved(self) -> None:
        """Set ready endpoints to pending: a new server does not know yet whether their replicas survived."""
        with self.deps.database.write() as uow:
            for endpoint in uow.all_projects().endpoints.all({"state": EndpointState.READY}):
                reason = endpoint.reason or STARTING
                update = {"state": EndpointState.PENDING, "reason": reason, "ready_replicas": 0}
                changed = endpoint.model_copy(update={**update, "changed_at": self.deps.clock.now()})
                uow.project(endpoint.project).endpoints.save(changed)

    def step(self) -> bool:
        """Reconcile every endpoint once; return whether there is any, so that it must be called again.

        Raises:
            WindlassError: the serving back end failed, or the first error of an endpoint; the others are reconciled.
        """
        with self.deps.database.read() as uow:
            endpoints = uow.all_projects().endpoints.all()
            desired = {endpoint.id: _desired_targets(uow.project(endpoint.project), endpoint) for endpoint in endpoints}
            required = {endpoint.id: required_targets(endpoint, desired[endpoint.id]) for endpoint in endpoints}
            projects = {project.id: project.name for project in uow.projects.all()}
            apps = {
                target.app: app
                for endpoint in endpoints
                for target in required[endpoint.id]
                if (app := self._app(uow, projects[endpoint.project], endpoint, target, len(required[endpoint.id])))
            }
            loads = uow.request_loads.all() if self.autoscaler is not None else []
        errors: list[Exception] = []
        unavailable = None
        if self.autoscaler is not None:
            starting = {
                target.app
                for endpoint in endpoints
                if requires_rollout(endpoint, desired[endpoint.id])
                for target in desired[endpoint.id]
            }
            apps = self._scaled(self.autoscaler, apps, loads, starting)
        try:
            self.serving.apply(list(apps.values()))
        except WindlassError as error:
            errors.append(error)
            unavailable = _unavailable(error)
        # What runs is observed even when nothing new can be started.
        status = self.serving.status()
        self.observed = _observed(endpoints, projects, status)
        listening = {app.key for app in status.apps if app.url}
        now = self.deps.clock.now()
        self._listening_since = {
            endpoint.id: self._listening_since.get(endpoint.id, now)
            for endpoint in endpoints
            if all(target.app in listening for target in desired[endpoint.id])
        }
        probes: set[str] = set()
        for endpoint in endpoints:
            try:
                probes |= self._reconcile_endpoint(endpoint, desired[endpoint.id], status, unavailable)
            except Exception as error:  # noqa: BLE001 - the first error is raised after all endpoints are reconciled
                errors.append(error)
        self.prober.retain(probes)
        if errors:
            raise errors[0]
        return bool(endpoints)

    def _scaled(
        self,
        autoscaler: Autoscaler,
        apps: Mapping[str, ServedApp],
        loads: Sequence[RequestLoad],
        starting: Collection[str],
    ) -> dict[str, ServedApp]:
        dead = autoscaler.dead(loads)
        if dead:
            with self.deps.database.write() as uow:
                for instance in dead:
                    uow.request_loads.remove(instance)
        apps_now = self.serving.status().apps
        statuses = {status.key: status for status in apps_now if status.state is not AppState.TERMINATING}
        return autoscaler.scaled(apps, statuses, [load for load in loads if load.instance not in dead], starting)

    def _app(
        self, uow: ReadUnitOfWork, project: str, endpoint: Endpoint, target: LiveTarget, number: int
    ) -> ServedApp | None:
        """Return a target, of ``number`` of its endpoint, as an application."""
        version = uow.project(endpoint.project).model_versions.find({"id": target.model_version})
        if version is None:
            return None  # deleted meanwhile: the next step resolves the spec again
        live = any(target.app == live_target.app for live_target in endpoint.live)
        spec = endpoint.live_spec if live and endpoint.live_spec else endpoint.spec
        return ServedApp(
            key=target.app,
            project=project,
            endpoint=endpoint.name,
            task=endpoint.task,
            artifact_uri=self.deps.store.uri(version.prefix),
            digest=version.manifest.digest(),
            model_name=f"{target.model}@{target.number}",
            replicas=_replica_range(uow, endpoint.project, spec, number),
            max_batch_size=spec.max_batch_size,
            batch_wait_ms=spec.batch_wait_ms,
            gpus=spec.gpus,
            pool=spec.pool,
        )

    def _reconcile_endpoint(
        self, endpoint: Endpoint, desired: tuple[LiveTarget, ...], status: ServingStatus, unavailable: Reason | None
    ) -> set[str]:
        """Advance an endpoint; return the keys of its probes that still run."""
        statuses = {app.key: app for app in status.apps}
        if endpoint.state is EndpointState.DELETING:
            # A complete status lists every application, also one that was started before this step.
            if status.complete and not any(key.startswith(app_key_prefix(endpoint.id)) for key in statuses):
                with self.deps.database.write() as uow:
                    uow.project(endpoint.project).endpoints.delete({"id": endpoint.id})
            return set()
        probes: set[str] = set()
        probe_error = None
        if requires_rollout(endpoint, desired) and all(_ready(statuses.get(target.app)) for target in desired):
            # With the generation, a rollout that is retried is probed again.
            keys = {f"{endpoint.id}/{endpoint.generation}/{target.app}": target for target in desired}
            results = [self._probe(key, endpoint, statuses[target.app]) for key, target in keys.items()]
            probe_error = next((result for result in results if result), None if None in results else "")
            probes = set(keys) if probe_error is None else set()
        advanced = advance(
            endpoint,
            desired,
            statuses,
            probe_error=probe_error,
            now=self.deps.clock.now(),
            observed_since=self._listening_since.get(endpoint.id, self.deps.clock.now()),
            timeout=self.timeout,
            unavailable=unavailable,
        )
        if advanced is not endpoint:
            self._save(advanced)
        return probes

    def _probe(self, key: str, endpoint: Endpoint, app: AppStatus) -> str | None:
        request = ProbeRequest(url=app.url, task=endpoint.task, headers=app.headers)
        return self.prober.result(key, endpoint.project, request)

    def _save(self, endpoint: Endpoint) -> None:
        """Store an endpoint unless its spec changed or a version it serves was deleted; the next step handles those."""
        with suppress(PreconditionFailedError), self.deps.database.write() as uow:
            repos = uow.project(endpoint.project)
            if all(repos.model_versions.find({"id": target.model_version}) for target in endpoint.live):
                repos.endpoints.save(endpoint)


def _replica_range(uow: ReadUnitOfWork, project: str, spec: EndpointSpec, number: int) -> ReplicaRange:
    """Return the range of each of ``number`` applications, without replicas that the quota can never admit."""
    replicas = spec.replicas
    if not spec.gpus or spec.pool is None or replicas.min == replicas.max:
        return replicas
    admitted = most_gpus(uow, project, spec.pool) // (spec.gpus * number)
    return replicas.model_copy(update={"max": max(1, replicas.min, min(replicas.max, admitted))})


def _observed(
    endpoints: Sequence[Endpoint], projects: Mapping[str, str], status: ServingStatus
) -> tuple[ObservedReplicas, ...]:
    statuses = {app.key: app for app in status.apps}
    observed = []
    for endpoint in endpoints:
        apps = [statuses[target.app] for target in endpoint.live if target.app in statuses]
        desired, ready = sum(app.desired_replicas for app in apps), sum(app.ready_replicas for app in apps)
        observed.append(ObservedReplicas(projects[endpoint.project], endpoint.name, desired, ready))
    return tuple(observed)


def _unavailable(error: WindlassError) -> Reason:
    return Reason(
        code="serving_unavailable",
        message=f"no model server can be started: {error.message}",
        action_by=ActionOwner.ADMIN,
        action=error.hint or "read the server's log; the server retries automatically",
    )


def _ready(app: AppStatus | None) -> bool:
    return app is not None and app.state is AppState.READY and bool(app.url)


def _desired_targets(repos: ReadProjectData, endpoint: Endpoint) -> tuple[LiveTarget, ...]:
    """Resolve the spec's targets; return the live targets when a version or alias no longer exists."""
    try:
        return tuple(_live_target(repos, endpoint, target) for target in endpoint.spec.traffic)
    except InvalidError:
        return endpoint.live


def _live_target(repos: ReadProjectData, endpoint: Endpoint, target: TrafficTarget) -> LiveTarget:
    version, spec = resolve(repos, target), endpoint.spec
    settings = f"{spec.replicas.model_dump_json()}{spec.max_batch_size}/{spec.batch_wait_ms}"
    return LiveTarget(
        app=app_key(endpoint.id, version.id, settings),
        model_version=version.id,
        model=target.model,
        number=version.number,
        weight=target.weight,
    )
