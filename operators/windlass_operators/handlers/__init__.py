"""Reconciles one resource: read spec and observed state, decide, apply, write the status.

Level-triggered: the same for a change, a start or a resync. All state is in the cluster, so that a killed process
continues where it stopped.
"""

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from windlass.kube.client import KubeClient
from windlass.kube.objects import Object, Ref
from windlass.kube.resources import CustomResource, GPUPool, ModelEndpoint, Project
from windlass_operators.cluster_cache import ClusterCache, name_error
from windlass_operators.decide import ConditionResult, malformed
from windlass_operators.handlers import cohort, endpoint, gpu_pool, invalid_resource, project
from windlass_operators.handlers.status_writer import StatusWriter
from windlass_operators.kinds import COHORT, MODELS
from windlass_operators.ray_cluster_sizes import RayClusterSizes
from windlass_operators.render.network import PlatformNetwork
from windlass_operators.work_queue import Key


class Reconciler:
    """Reconciles any resource by its key."""

    def __init__(
        self,
        client: KubeClient,
        cache: ClusterCache,
        now: Callable[[], datetime],
        network: PlatformNetwork,
    ) -> None:
        self._client, self._cache, self._network = client, cache, network
        self._writer, self._sizes = StatusWriter(client, cache, now), RayClusterSizes(client)

    def reconcile(self, key: Key) -> float | None:
        """Reconcile one resource; return seconds after which to requeue it, or None.

        Raises:
            KubeApiError: a request failed; the reconciliation can be retried.
        """
        raw = self._cache.store.get(Ref(key.kind, key.name, key.namespace))
        if raw is None:
            return None
        if key.kind == COHORT:
            cohort.reconcile(raw, self._cache, self._client)
            return None
        if problem := name_error(key.name):
            return self._invalid(raw, ConditionResult(status=False, reason="Malformed", message=problem))
        try:
            subject = self._cache.parse(MODELS[key.kind], raw)
        except ValidationError as error:
            return self._invalid(raw, malformed(error))
        return self._valid(subject)

    def _invalid(self, raw: Object, problem: ConditionResult) -> float | None:
        return invalid_resource.reconcile(raw, problem, self._cache, self._client, self._writer)

    def _valid(self, subject: CustomResource) -> float | None:
        if isinstance(subject, GPUPool):
            return gpu_pool.reconcile(subject, self._cache, self._client, self._writer)
        if isinstance(subject, Project):
            return project.reconcile(subject, self._cache, self._client, self._writer, self._network)
        if isinstance(subject, ModelEndpoint):
            return endpoint.reconcile(subject, self._cache, self._writer, self._sizes)
        raise TypeError(f"no reconciler for {type(subject).__name__}")
