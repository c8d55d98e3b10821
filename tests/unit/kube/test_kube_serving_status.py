"""The status of applications from RayServices and ModelEndpoints, as KubeRay 1.6.2 and the operators write them."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operators import desired_objects

from windlass.domain.endpoints import AppState
from windlass.domain.jobs import ActionOwner, Reason
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.objects import Object
from windlass.kube.resources.model_endpoint import ServedVersion
from windlass.kube.serving.cache import transform
from windlass.kube.serving.status import ObservedVersion, app_status, endpoint_problem, terminating_status

KEY = "ep-1-mv-1"
LOAD_ERROR = "ray::x\nwindlass_pipelines.serve.artifact.ModelLoadError: a weight is missing\n"
NO_MEMORY = "windlass_pipelines.serve.artifact.ModelMemoryError: no free memory\n"


def observed(service: Object | None, name: str = "ep-live-1", **fields: Any) -> ObservedVersion:
    version = ServedVersion.model_validate(desired_objects.served_version(service=name, **fields))
    return ObservedVersion(version, "wl-search", service)


def ray_service(status: str = "", message: str = "", endpoints: int = 0, *, pending: bool = False) -> Object:
    """The status before and after the first time that the application runs."""
    application = {"status": status, "serveDeploymentStatuses": {"model": {"message": message}}}
    part = {"applicationStatuses": {KEY: application}} if status else {}
    conditions = [{"type": "Ready", "status": "True" if endpoints else "False", "reason": "R", "message": ""}]
    name = "pendingServiceStatus" if pending else "activeServiceStatus"
    return {"metadata": {}, "status": {"conditions": conditions, "numServeEndpoints": endpoints, name: part}}


def test_an_application_is_ready_at_its_service_when_pods_accept_requests() -> None:
    status = app_status([observed(ray_service("RUNNING", endpoints=2))], None)
    assert (status.key, status.state, status.ready_replicas) == (KEY, AppState.READY, 2)
    assert status.url == f"http://ep-live-1-serve-svc.wl-search.svc:8000/{KEY}"


def test_the_time_to_load_begins_when_serve_answers() -> None:
    for service in (None, ray_service()):
        status = app_status([observed(service)], None)
        assert (status.state, status.url) == (AppState.DEPLOYING, "")
    status = app_status([observed(ray_service("DEPLOYING", pending=True))], None)
    assert (status.state, status.message) == (AppState.DEPLOYING, "loading the model")
    assert status.url


@pytest.mark.parametrize(
    ("message", "reason", "transient"),
    [
        (LOAD_ERROR, "a weight is missing", False),
        (NO_MEMORY, "no free memory", True),
        ("", "failed without a message", False),
    ],
)
def test_a_failed_application_has_its_reason(message: str, reason: str, transient: bool) -> None:
    status = app_status([observed(ray_service("DEPLOY_FAILED", message, pending=True))], None)
    assert (status.state, status.message, status.transient) == (AppState.FAILED, reason, transient)


def test_more_replicas_do_not_interrupt_an_application_and_an_unhealthy_only_one_does() -> None:
    assert app_status([observed(ray_service("DEPLOYING", endpoints=1))], None).state is AppState.READY
    unhealthy = ray_service("UNHEALTHY", "killed", endpoints=1)
    assert app_status([observed(unhealthy)], None).state is AppState.DEPLOYING
    assert app_status([observed(unhealthy, replicas=2)], None).state is AppState.READY


def test_the_earlier_image_serves_until_the_desired_one_does() -> None:
    new, old = (
        observed(ray_service("DEPLOYING", pending=True), "ep-live-new"),
        observed(ray_service("RUNNING", endpoints=1), "ep-live-old"),
    )
    assert "ep-live-old-" in app_status([new, old], None).url
    new = observed(ray_service("RUNNING", endpoints=1), "ep-live-new")
    assert "ep-live-new-" in app_status([new, old], None).url
    failed = observed(ray_service("DEPLOY_FAILED", LOAD_ERROR), "ep-live-new")
    assert app_status([failed, old], None).state is AppState.READY, "a bad image does not end an endpoint"


def test_replicas_that_kueue_has_not_admitted_wait_for_quota() -> None:
    suspended = ray_service() | {"spec": {"rayClusterConfig": {"suspend": True, "headGroupSpec": {}}}}
    stored = transform({"apiVersion": "ray.io/v1", "kind": "RayService"} | suspended)
    assert stored is not None
    assert "headGroupSpec" not in stored["spec"]["rayClusterConfig"]
    waits = app_status([observed(stored, gpus=1, pool="a100", replicas=2)], None).waits
    assert waits is not None
    message = "the queue of pool a100 has not admitted 2 replicas with 1 GPU each"
    assert (waits.code, waits.message) == ("waiting_for_quota", message)
    admitted = stored | {"spec": {"rayClusterConfig": {"suspend": False}}}
    assert app_status([observed(admitted, gpus=1, pool="a100")], None).waits is None


def test_an_application_that_waits_says_for_what() -> None:
    reason = Reason(code="no_quota", message="no quota", action_by=ActionOwner.ADMIN)
    assert app_status([observed(None)], reason).waits == reason
    rejected = ray_service()
    rejected["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "a name is too long"}
    ]
    waits = app_status([observed(rejected)], None).waits
    assert waits is not None
    assert (waits.code, "a name is too long" in waits.message) == ("service_rejected", True)


def test_problems_of_an_endpoint_are_reasons_and_progress_is_none() -> None:
    def endpoint(reason: str, status: str = "False") -> Object:
        condition = {"type": "Ready", "status": status, "reason": reason, "message": "m"}
        return {"status": {"conditions": [condition]}}

    found = endpoint_problem(endpoint("TooManyReplicas"))
    assert found is not None
    assert (found.code, found.message, found.action_by) == ("too_many_replicas", "m", ActionOwner.ADMIN)
    for progress in ("Starting", "Terminating"):
        assert endpoint_problem(endpoint(progress)) is None
    assert endpoint_problem(endpoint("Serving", "True")) is None
    assert endpoint_problem({}) is None


def test_only_services_of_ours_are_listed_while_they_stop() -> None:
    service = {"metadata": {"annotations": {"windlass.dev/application": KEY}}}
    status = terminating_status(service)
    assert status is not None
    assert (status.key, status.state) == (KEY, AppState.TERMINATING)
    assert terminating_status({"metadata": {}}) is None


def test_an_application_that_is_scaled_to_zero_is_ready_and_has_no_url() -> None:
    for service in (None, ray_service("RUNNING", endpoints=1)):
        status = app_status([observed(service, replicas=0)], None)
        assert (status.state, status.url, status.ready_replicas) == (AppState.READY, "", 0)


def replica_pod(name: str, *, ready: bool = False, gated: bool = False) -> Pod:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    status = {
        "phase": "Pending" if gated else "Running",
        "conditions": [scheduled] if gated else [],
        "containerStatuses": [] if gated else [{"name": "ray-worker", "ready": ready}],
    }
    return Pod.parse({"metadata": {"name": name}, "spec": {"containers": [{"name": "ray-worker"}]}, "status": status})


def test_additional_replicas_that_kueue_has_not_admitted_leave_the_application_ready_with_a_reason() -> None:
    serving = observed(ray_service("RUNNING", endpoints=1), gpus=1, pool="a100", replicas=3)
    pods = (replica_pod("a", ready=True), replica_pod("b", gated=True), replica_pod("c", gated=True))
    status = app_status([replace(serving, pods=pods)], None)
    assert (status.state, status.ready_replicas, status.desired_replicas) == (AppState.READY, 1, 3)
    assert status.waits is not None
    message = "the queue of pool a100 has not admitted 2 replicas with 1 GPU each"
    assert (status.waits.code, status.waits.message) == ("waiting_for_quota", message)
    loading = replace(serving, pods=(replica_pod("a", ready=True), replica_pod("b")))
    assert app_status([loading], None).waits is None, "it starts"
    enough = observed(ray_service("RUNNING", endpoints=1), gpus=1, pool="a100", replicas=1)
    assert app_status([replace(enough, pods=pods)], None).waits is None
