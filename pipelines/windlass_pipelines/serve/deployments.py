"""From a wished application to what Ray Serve runs."""

import hashlib
import os
from collections.abc import Sequence

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass_pipelines.serve.limits import SLOTS, WAITING
from windlass_pipelines.serve.replica import Replica

_LOGICAL_CPUS = 0.001
"""Windlass admits; Ray must never queue a replica for want of logical resources."""
_SHUTDOWN_SECONDS = 10.0
_DOWNSCALE_SECONDS = 60.0
_TO_ZERO_SECONDS = 300.0


def target(app: ServedApp, hosts: Sequence[str]) -> serve.RunTarget:
    """Return what to hand to ``serve.run_many`` for ``app``, under the route ``/<key>``."""
    return serve.RunTarget(target=_application(app, hosts), name=app.key, route_prefix=f"/{app.key}")


def _application(app: ServedApp, hosts: Sequence[str]) -> Application:
    ongoing = 2 * (SLOTS + WAITING) if app.task is Task.CHAT else max(32, 4 * app.max_batch_size)
    options = {
        "name": "model",
        "ray_actor_options": {"num_cpus": _LOGICAL_CPUS},
        "max_ongoing_requests": ongoing,
        "max_queued_requests": 4 * ongoing,
        # One try: what failed to load fails again; the reason is shown and the wish may change.
        "max_constructor_retry_count": 1,
        "graceful_shutdown_timeout_s": _SHUTDOWN_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.2,
        "health_check_period_s": 5.0,
        **_scaling(app.replicas),
    }
    # A version of our own and not a random one: deploying the same model again, as a restarted host does, then changes
    # nothing, and a new replica range does not load the model anew. The public option of that name is gone.
    deployment = serve.deployment(Replica).options(**options, version=_version(app), _internal=True)
    return deployment.bind(_replica_view(app).model_dump_json(), threads_per_replica(app.replicas.max), tuple(hosts))


def _scaling(replicas: ReplicaRange) -> dict[str, object]:
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    scaling = AutoscalingConfig(
        min_replicas=replicas.min,
        # One at first also where none is needed later: a model that cannot be loaded shows it now.
        initial_replicas=max(1, replicas.min),
        max_replicas=replicas.max,
        target_ongoing_requests=replicas.target_ongoing_requests,
        upscale_delay_s=0,
        metrics_interval_s=0.1,
        look_back_period_s=0.5,
        downscale_delay_s=_DOWNSCALE_SECONDS,
        downscale_to_zero_delay_s=_TO_ZERO_SECONDS,
    )
    return {"autoscaling_config": scaling}


def _replica_view(app: ServedApp) -> ServedApp:
    """Leave out what a replica does not read, so that changing it changes no version."""
    return app.model_copy(update={"replicas": ReplicaRange()})


def _version(app: ServedApp) -> str:
    return hashlib.sha256(_replica_view(app).model_dump_json().encode()).hexdigest()[:16]


def threads_per_replica(most_replicas: int, cores: int | None = None) -> int:
    """Return how many threads a replica may use: together the replicas take half of the cores, each at most 8.

    Threads that wait for each other burn the cores that they wait for: beside other work, two threads on two cores
    took twelve times the CPU seconds of one for the same sentence.
    """
    cores = cores or len(os.sched_getaffinity(0))
    return max(1, min(8, cores // (2 * most_replicas)))
