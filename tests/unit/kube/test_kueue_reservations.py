"""When the Workloads of jobs reserved and released quota, from Kueue's conditions."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.kube.kueue_objects import admitted, condition, pending_workload, project, state

from windlass.domain.cluster_sync import ObservedReservation
from windlass.kube.kueue.reservations import DeletedWorkload, ModelServers, reservations_from_workloads
from windlass.kube.kueue.workload import Workload

OURS = project("ours", {"pool": "a100", "nominal": 8})
JOB = "0" * 26
Json = dict[str, Any]


def at(second: int) -> datetime:
    return datetime(2026, 11, 22, 10, tzinfo=UTC) + timedelta(seconds=second)


def of_run(workload: Json) -> Json:
    """Return the Workload as that of the RayJob of a run."""
    owner = {"kind": "RayJob", "name": f"job-{JOB}-r1", "uid": "uid-rayjob", "controller": True}
    return workload | {"metadata": workload["metadata"] | {"ownerReferences": [owner]}}


def with_conditions(workload: Json, *conditions: Json) -> Json:
    replaced = {each["type"] for each in conditions}
    kept = [each for each in workload["status"]["conditions"] if each["type"] not in replaced]
    return workload | {"status": workload["status"] | {"conditions": [*kept, *conditions]}}


def reservations(*workloads: Json) -> tuple[ObservedReservation, ...]:
    return reservations_from_workloads(state([OURS], *(of_run(each) for each in workloads)))


def of_service(workload: Json, uid: str = "uid-service") -> Json:
    """Return the Workload as that of the RayService of a model server."""
    owner = {"kind": "RayService", "name": "ep-live-0123456789", "uid": uid, "controller": True}
    return workload | {"metadata": workload["metadata"] | {"ownerReferences": [owner]}}


HELD = admitted("ours", "w", 2, at=10)
EXPECTED = ObservedReservation(workload="uid-w", job=f"job_{JOB}", pool="a100", gpus=2, reserved_at=at(10))


def test_an_admitted_workload_holds_its_gpus_since_the_quota_was_reserved() -> None:
    assert reservations(HELD) == (EXPECTED,)


def test_a_finished_workload_has_released_its_quota() -> None:
    finished = with_conditions(HELD, condition("Finished", at=70))
    assert reservations(finished) == (EXPECTED.model_copy(update={"released_at": at(70)}),)


def test_an_evicted_workload_holds_its_quota_until_its_pods_are_gone() -> None:
    evicted = with_conditions(HELD, condition("Evicted", reason="Preempted", at=30))
    assert reservations(evicted) == (EXPECTED,)
    requeued = with_conditions(evicted, condition("QuotaReserved", status=False, at=34))
    requeued["status"] = {"conditions": requeued["status"]["conditions"]}
    assert reservations(requeued) == (ObservedReservation(workload="uid-w", job=f"job_{JOB}", released_at=at(34)),)


def test_a_workload_that_waits_has_no_reservation() -> None:
    assert reservations(pending_workload("ours", "w", 2)) == ()


def test_a_workload_that_was_deleted_with_its_quota_released_it_then() -> None:
    [held, finished] = Workload.parse_all([of_run(HELD), of_run(with_conditions(HELD, condition("Finished", at=70)))])
    deleted = [DeletedWorkload(held, at(80)), DeletedWorkload(finished, at(80))]
    assert reservations_from_workloads(state([OURS]), deleted) == (
        EXPECTED.model_copy(update={"released_at": at(80)}),
        EXPECTED.model_copy(update={"released_at": at(70)}),
    )


def test_only_workloads_of_jobs_count() -> None:
    assert reservations_from_workloads(state([OURS], HELD)) == ()


def test_a_model_server_holds_the_gpus_of_its_workload() -> None:
    servers = ModelServers(apps={"uid-service": "app"}, projects={"ours": "prj_1", "theirs": "prj_2"})
    [observed] = reservations_from_workloads(state([OURS], of_service(HELD)), servers=servers)
    served = {"job": "ray-service/uid-service", "app": "app", "namespace_project": "prj_1"}
    assert observed == EXPECTED.model_copy(update=served)


def test_a_model_server_whose_ray_service_is_not_known_has_no_application() -> None:
    [observed] = reservations_from_workloads(state([OURS], of_service(HELD)))
    assert (observed.job, observed.app, observed.gpus) == ("ray-service/uid-service", "", 2)


def test_a_model_server_with_fewer_replicas_holds_fewer_gpus() -> None:
    replicas = admitted("ours", "w", 3, at=10)
    replicas["spec"]["podSets"][0]["count"] = 3
    replicas["status"]["admission"]["podSetAssignments"][0]["count"] = 3
    [observed] = reservations_from_workloads(state([OURS], of_service(replicas)))
    assert observed.gpus == 3
    replicas["spec"]["podSets"][0]["count"] = 1
    [observed] = reservations_from_workloads(state([OURS], of_service(replicas)))
    assert (observed.gpus, observed.reserved_at) == (1, at(10))
