"""What is handed to Serve: which changes load a model anew, and how replicas share the machine."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.serve.tiny_artifacts import served

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task

# Ray declares its own pydantic models in a way that pydantic 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def app(**changes: Any) -> ServedApp:
    return served("a", Path("/a"), Task.CHAT, digest="0" * 64, **changes)


def deployment(wished: ServedApp) -> Any:
    from windlass_pipelines.serve.deployments import target

    made = target(wished, ("127.0.0.1",))
    assert (made.name, made.route_prefix) == ("a", "/a")
    return made.target._bound_deployment


def test_a_new_replica_range_keeps_the_version_and_so_the_loaded_model() -> None:
    wide = app(replicas=ReplicaRange(min=1, max=3, target_ongoing_requests=5))
    assert deployment(wide)._version == deployment(app())._version
    assert deployment(wide)._deployment_config.autoscaling_config.max_replicas == 3
    assert deployment(app())._deployment_config.autoscaling_config is None


@pytest.mark.parametrize(
    "changes", [{"artifact": Path("/b")}, {"model_name": "other"}, {"max_batch_size": 2}, {"batch_wait_ms": 9.0}]
)
def test_everything_that_a_replica_reads_is_in_the_version(changes: dict[str, Any]) -> None:
    assert deployment(app(**changes))._version != deployment(app())._version


def test_an_endpoint_that_may_sleep_still_loads_its_model_once() -> None:
    scaling = deployment(app(replicas=ReplicaRange(min=0, max=2)))._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.initial_replicas) == (0, 1)


def test_a_bad_model_is_tried_once_and_ray_never_queues_a_replica() -> None:
    made = deployment(app())
    assert made._deployment_config.max_constructor_retry_count == 1
    assert made.ray_actor_options["num_cpus"] <= 0.001


@pytest.mark.parametrize(
    ("most", "cores", "threads"), [(1, 1, 1), (1, 2, 1), (1, 8, 4), (2, 8, 2), (1000, 8, 1), (1, 64, 8)]
)
def test_replicas_leave_half_of_the_machine_to_the_rest(most: int, cores: int, threads: int) -> None:
    from windlass_pipelines.serve.deployments import threads_per_replica

    assert threads_per_replica(most, cores) == threads
