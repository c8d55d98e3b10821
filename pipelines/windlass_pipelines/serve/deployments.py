"""Builds the Ray Serve application of a model version."""

import hashlib
import os
from collections.abc import Mapping, Sequence

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from windlass.domain.autoscaling import ScalingDelays
from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass.serving.environment import DEPLOYMENT_NAME
from windlass_pipelines.serve.limits import MAX_QUEUED, SLOTS
from windlass_pipelines.serve.replica import Replica

_LOGICAL_CPUS = 0.001
"""Replicas are already admitted; Ray must not queue them for logical CPUs."""
_SHUTDOWN_TIMEOUT_SECONDS = 10.0
_DELAYS = ScalingDelays()


def run_target(app: ServedApp, hosts: Sequence[str]) -> serve.RunTarget:
    """Return the argument of ``serve.run_many`` for ``app``, with the route ``/<key>``."""
    target = application(
        app,
        hosts,
        threads=threads_per_replica(app.replicas.max),
        actor_options={"num_cpus": _LOGICAL_CPUS},
        scaling=_scaling(app.replicas),
    )
    return serve.RunTarget(target=target, name=app.key, route_prefix=f"/{app.key}")


def application(
    app: ServedApp,
    hosts: Sequence[str],
    *,
    threads: int,
    actor_options: Mapping[str, object],
    scaling: Mapping[str, object],
) -> Application:
    """Return the application of ``app``, with one deployment ``DEPLOYMENT_NAME``.

    Args:
        app: what to serve; its replica range is not used.
        hosts: accepted host names in requests; empty accepts all.
        threads: CPU threads of a replica.
        actor_options: logical resources of a replica.
        scaling: the options of Ray Serve for the number of replicas.
    """
    ongoing = 2 * (SLOTS + MAX_QUEUED) if app.task is Task.CHAT else max(32, 4 * app.max_batch_size)
    options = {
        "name": DEPLOYMENT_NAME,
        "ray_actor_options": dict(actor_options),
        "max_ongoing_requests": ongoing,
        "max_queued_requests": 4 * ongoing,
        # No retries: a model that failed to load would fail again; the status shows the reason.
        "max_constructor_retry_count": 1,
        "graceful_shutdown_timeout_s": _SHUTDOWN_TIMEOUT_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.2,
        "health_check_period_s": 5.0,
        **scaling,
    }
    # With a fixed version instead of a random one, redeploying the same model (after a restart of the controller)
    # changes nothing, and a new replica range does not reload the model. Ray has removed the public option for it.
    deployment = serve.deployment(Replica).options(**options, version=_version(app), _internal=True)
    return deployment.bind(_replica_config(app).model_dump_json(), threads, tuple(hosts))


def _scaling(replicas: ReplicaRange) -> dict[str, object]:
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    scaling = AutoscalingConfig(
        min_replicas=replicas.min,
        # At least one, even when scaling to zero is allowed, so that a model that cannot be loaded fails now.
        initial_replicas=max(1, replicas.min),
        max_replicas=replicas.max,
        target_ongoing_requests=replicas.target_ongoing_requests,
        upscale_delay_s=_DELAYS.upscale,
        metrics_interval_s=0.1,
        look_back_period_s=0.5,
        downscale_delay_s=_DELAYS.downscale,
        downscale_to_zero_delay_s=_DELAYS.to_zero,
    )
    return {"autoscaling_config": scaling}


def _replica_config(app: ServedApp) -> ServedApp:
    """Drop the fields that a replica does not read, so that they do not change the version."""
    return app.model_copy(update={"replicas": ReplicaRange(), "desired_replicas": None})


def _version(app: ServedApp) -> str:
    return hashlib.sha256(_replica_config(app).model_dump_json().encode()).hexdigest()[:16]


def threads_per_replica(max_replicas: int, cores: int | None = None) -> int:
    """Return the CPU threads of a replica: all replicas together use half of the cores, each at most 8.

    Waiting threads spin: next to other work, two threads on two cores used twelve times the CPU seconds of one thread
    for the same sentence.
    """
    cores = cores or len(os.sched_getaffinity(0))
    return max(1, min(8, cores // (2 * max_replicas)))
