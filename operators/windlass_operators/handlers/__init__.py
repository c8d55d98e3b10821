"""One reconciliation: read what is wished and what is there, decide, act, say what became of it.

It does the same whatever woke it: a change, a start, or the clock. Nothing is remembered between two of them but what
stands in the cluster, so that a process that is killed anywhere goes on where it was.
"""

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from windlass.kube.client import Client
from windlass.kube.objects import Object, Ref
from windlass.kube.resources import GPUPool, ModelEndpoint, Project, Resource
from windlass_operators.decide import Verdict, malformed
from windlass_operators.handlers import cohort, endpoint, gpu_pool, project, unreadable
from windlass_operators.handlers.writing import Writer
from windlass_operators.kinds import COHORT, MODELS
from windlass_operators.queue import Key
from windlass_operators.render.model_endpoint import Serving
from windlass_operators.world import World, wrong_name


class Reconciler:
    """Reconciles any resource by its key."""

    def __init__(
        self, client: Client, world: World, now: Callable[[], datetime], system: str, serving: Serving
    ) -> None:
        self._client, self._world, self._system, self._serving = client, world, system, serving
        self._writer = Writer(client, world.store, now)

    def reconcile(self, key: Key) -> float | None:
        """Bring one resource's part of the cluster to what is wished; return seconds until it wants another look.

        Raises:
            ClusterError: the API server did not do its part; all of it may be tried again.
        """
        raw = self._world.store.get(Ref(key.kind, key.name, key.namespace))
        if raw is None:
            return None
        if key.kind == COHORT:
            cohort.reconcile(raw, self._world, self._client)
            return None
        if wrong := wrong_name(key.name):
            return self._unreadable(raw, Verdict(status=False, reason="Malformed", message=wrong))
        try:
            subject = self._world.parse(MODELS[key.kind], raw)
        except ValidationError as error:
            return self._unreadable(raw, malformed(error))
        return self._resource(subject)

    def _unreadable(self, raw: Object, wrong: Verdict) -> float | None:
        return unreadable.reconcile(raw, wrong, self._world, self._client, self._writer)

    def _resource(self, subject: Resource) -> float | None:
        if isinstance(subject, GPUPool):
            return gpu_pool.reconcile(subject, self._world, self._client, self._writer)
        if isinstance(subject, Project):
            return project.reconcile(subject, self._world, self._client, self._writer, self._system)
        if isinstance(subject, ModelEndpoint):
            return endpoint.reconcile(subject, self._world, self._writer, self._serving)
        raise TypeError(f"nobody reconciles a {type(subject).__name__}")
