"""The Ray Serve deployment: which changes reload the model, and how replicas share the CPU cores."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.serve.tiny_artifacts import served_app

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task

# Ray declares its own pydantic models in a way that pydantic 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def app(**changes: Any) -> ServedApp:
    return served_app("a", Path("/a"), Task.CHAT, digest="0" * 64, **changes)


def deployment(desired: ServedApp) -> Any:
    from windlass_pipelines.serve.deployments import run_target

    target = run_target(desired, ("127.0.0.1",))
    assert (target.name, target.route_prefix) == ("a", "/a")
    return target.target._bound_deployment


def test_a_new_replica_range_does_not_change_the_version() -> None:
    wide = app(replicas=ReplicaRange(min=1, max=3, target_ongoing_requests=5))
    assert deployment(wide)._version == deployment(app())._version
    assert deployment(wide)._deployment_config.autoscaling_config.max_replicas == 3
    assert deployment(app())._deployment_config.autoscaling_config is None


@pytest.mark.parametrize(
    "changes", [{"artifact_uri": "file:///b"}, {"model_name": "other"}, {"max_batch_size": 2}, {"batch_wait_ms": 9.0}]
)
def test_every_field_that_a_replica_reads_changes_the_version(changes: dict[str, Any]) -> None:
    assert deployment(app(**changes))._version != deployment(app())._version


def test_scale_to_zero_starts_with_one_replica() -> None:
    scaling = deployment(app(replicas=ReplicaRange(min=0, max=2)))._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.initial_replicas) == (0, 1)


def test_a_replica_is_started_once_and_needs_no_logical_cpus() -> None:
    target = deployment(app())
    assert target._deployment_config.max_constructor_retry_count == 1
    assert target.ray_actor_options["num_cpus"] <= 0.001


@pytest.mark.parametrize(
    ("most", "cores", "threads"), [(1, 1, 1), (1, 2, 1), (1, 8, 4), (2, 8, 2), (1000, 8, 1), (1, 64, 8)]
)
def test_replicas_use_at_most_half_of_the_cores(most: int, cores: int, threads: int) -> None:
    from windlass_pipelines.serve.deployments import threads_per_replica

    assert threads_per_replica(most, cores) == threads
