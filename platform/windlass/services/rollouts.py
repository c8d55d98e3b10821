"""Rolls endpoints out: tells the serving back end the whole wish, and each endpoint what came of its own."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.endpoints import AppState, Endpoint, EndpointState, LiveTarget, ServedApp, ServingStatus
from windlass.domain.errors import InvalidError, PreconditionFailedError, WindlassError
from windlass.domain.jobs import Owner, Reason
from windlass.domain.rollout import decide, needed, rolls_out
from windlass.domain.specs import Task
from windlass.ports import ProjectData, ServingBackend, UnitOfWork
from windlass.services.backing import Backing
from windlass.services.endpoints import resolve

Probe = Callable[[str, Task], str]
"""Asks an application (its URL, its task) a small question; returns an empty string, or what went wrong."""


@dataclass(frozen=True)
class Rollouts:
    """One step of all rollouts; call it again and again."""

    backing: Backing
    serving: ServingBackend
    probe: Probe
    patience: timedelta
    since: datetime
    """When this server began to look."""

    def step(self) -> None:
        """Look at every endpoint once; trouble with one of them does not keep the others waiting."""
        with self.backing.database.read() as work:
            endpoints = work.everywhere().endpoints.all()
            wishes = {endpoint.id: _wished(work.of(endpoint.project), endpoint) for endpoint in endpoints}
            targets = [(one, target) for one in endpoints for target in needed(one, wishes[one.id])]
            apps = {target.app: app for one, target in targets if (app := self._app(work, one, target))}
        try:
            self.serving.apply(list(apps.values()))
            status = self.serving.status()
        except WindlassError as error:
            for endpoint in endpoints:
                self._cannot_serve(endpoint, error)
            raise
        troubles = []
        for endpoint in endpoints:
            try:
                self._settle(endpoint, wishes[endpoint.id], status)
            except Exception as error:  # noqa: BLE001 - told below, when the others have had their turn
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _cannot_serve(self, endpoint: Endpoint, error: WindlassError) -> None:
        """Say on an endpoint that waits why it does: the model servers' back end does not work."""
        if endpoint.live or endpoint.spec.stopped or endpoint.state is EndpointState.DELETING:
            return
        reason = Reason(
            code="serving_unavailable",
            message=f"no model server can be started: {error.message}",
            owner=Owner.ADMIN,
            action=error.hint or "read the server's log; it is tried again and again",
        )
        if endpoint.reason != reason:
            self._save(endpoint.model_copy(update={"reason": reason, "changed_at": self.backing.clock.now()}))

    def _app(self, work: UnitOfWork, endpoint: Endpoint, target: LiveTarget) -> ServedApp | None:
        version = work.of(endpoint.project).model_versions.find(id=target.model_version)
        if version is None:
            return None  # deleted in between: the next look resolves the wish anew
        live = any(target.app == one.app for one in endpoint.live)
        spec = endpoint.live_spec if live and endpoint.live_spec else endpoint.spec
        return ServedApp(
            key=target.app,
            task=endpoint.task,
            artifact=self.backing.store.local_path(version.prefix),
            digest=version.manifest.digest(),
            model_name=f"{target.model}@{target.number}",
            replicas=spec.replicas,
            max_batch_size=spec.max_batch_size,
            batch_wait_ms=spec.batch_wait_ms,
        )

    def _settle(self, seen: Endpoint, wished: tuple[LiveTarget, ...], status: ServingStatus) -> None:
        statuses = {app.key: app for app in status.apps}
        if seen.state is EndpointState.DELETING:
            # an application whose start was asked for before this look may not be named yet
            if status.complete and not any(key.startswith(_key(seen.id)) for key in statuses):
                with self.backing.database.write() as work:
                    work.of(seen.project).endpoints.delete(id=seen.id)
            return
        probed = None
        if rolls_out(seen, wished) and all(_ready(statuses.get(target.app)) for target in wished):
            said = [self.probe(f"{status.base_url}/{target.app}", seen.task) for target in wished]
            probed = next((complaint for complaint in said if complaint), "")
        now = self.backing.clock.now()
        after = decide(seen, wished, statuses, probed=probed, now=now, since=self.since, patience=self.patience)
        if after is not seen:
            self._save(after)

    def _save(self, endpoint: Endpoint) -> None:
        """Store an endpoint, unless somebody wished anew or deleted what it serves: the next look decides on that."""
        with suppress(PreconditionFailedError), self.backing.database.write() as work:
            inside = work.of(endpoint.project)
            if all(inside.model_versions.find(id=target.model_version) for target in endpoint.live):
                inside.endpoints.save(endpoint)


def _ready(app: object) -> bool:
    return getattr(app, "state", None) is AppState.READY


def _wished(inside: ProjectData, endpoint: Endpoint) -> tuple[LiveTarget, ...]:
    """Return the targets that the spec means now; what is live when a version or alias has gone."""
    try:
        return tuple(_target(inside, endpoint, number) for number in range(len(endpoint.spec.traffic)))
    except InvalidError:
        return endpoint.live


def _target(inside: ProjectData, endpoint: Endpoint, number: int) -> LiveTarget:
    wish = endpoint.spec.traffic[number]
    version = resolve(inside, wish)
    spec = endpoint.spec
    # Another configuration is another application: it starts beside the old one and takes over when it is healthy.
    shape = f"{spec.replicas.model_dump_json()}{spec.max_batch_size}/{spec.batch_wait_ms}"
    variant = hashlib.sha256(shape.encode()).hexdigest()[:8]
    return LiveTarget(
        app=f"{_key(endpoint.id)}-{_key(version.id)}-{variant}",
        model_version=version.id,
        model=wish.model,
        number=version.number,
        weight=wish.weight,
    )


def _key(identifier: str) -> str:
    return identifier.replace("_", "-")
