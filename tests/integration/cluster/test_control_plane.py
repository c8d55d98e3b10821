"""The control plane on a real cluster: REST matches kubectl, and permissions hold."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.factories.small_jobs import ensure_test_data
from tests.factories.tiny_models import tiny_encoder
from tests.integration.cluster.control_plane_process import ControlPlaneProcess
from tests.integration.cluster.installed import CONTROL, WORKER, admin_client, guide, queued_job, valid_ray_job
from tests.integration.cluster.operator_process import OperatorProcess, pool, project, wait_for_reason
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.errors import LocalClusterError

from windlass.kube.client import KubeClient
from windlass.kube.objects import Kind, Ref
from windlass.sdk import Client
from windlass_operators.kinds import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB, RAY_JOB = Kind("batch/v1", "Job"), Kind("ray.io/v1", "RayJob")
NAMES = ("search", "ranking", "speech")
GITOPS = "gitops"


@pytest.fixture(scope="module")
def lab(operator: OperatorProcess) -> Iterator[KubeClient]:
    """The guide's pools and projects, applied as by a GitOps tool."""
    for one in [*guide("pools.yaml"), *guide("projects.yaml")]:
        operator.client.apply(one, manager=GITOPS)
    for name in NAMES:
        wait_for_reason(operator.client, project(name), "Reconciled")
    yield operator.client
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture(scope="module")
def api(lab: KubeClient, control_plane: ControlPlaneProcess) -> ControlPlaneProcess:
    eventually(lambda: len(control_plane.ask("GET", "/v1/quotas")["items"]) == 5, "the ledger has all lines")
    return control_plane


@pytest.fixture
def worker(lab: KubeClient, api: ControlPlaneProcess) -> Iterator[KubeClient]:
    """The account that submits jobs; deletes them afterwards."""
    yield admin_client(api.cluster, impersonate=WORKER)
    for name in NAMES:
        for kind in (JOB, RAY_JOB):
            for one in lab.list(kind, f"wl-{name}").items:
                lab.delete(Ref.of(one))
    eventually(
        lambda: all(one["used"] == one["pending"] == 0 for one in api.ask("GET", "/v1/quotas")["items"]), "all is free"
    )


def desired_project(lab: KubeClient, name: str, pool_name: str) -> Json:
    quotas = lab.get(project(name))["spec"]["quotas"]
    return next((one for one in quotas if one["pool"] == pool_name), {})


def holds(api: ControlPlaneProcess, name: str, gpus: int) -> bool:
    return bool(api.line(name, "a100").get("used") == gpus)


def reports_the_same(lab: KubeClient, api: ControlPlaneProcess, name: str) -> bool:
    line, status = api.line(name, "a100"), lab.get(project(name))["status"]["quotas"][0]
    loans = {"borrowed_from": "borrowedFrom", "lent_to": "lentTo"}
    return all(
        line[field] == status[field] for field in ("nominal", "used", "pending", "reclaimable", "overcommitted")
    ) and all(
        line[ours] == {loan["project"]: loan["gpus"] for loan in status[theirs]} for ours, theirs in loans.items()
    )


def test_rest_and_kubectl_report_the_same_borrowing(
    lab: KubeClient, api: ControlPlaneProcess, worker: KubeClient
) -> None:
    worker.create(valid_ray_job("search", "own", workers=12), manager="test")
    worker.create(valid_ray_job("search", "borrows", workers=10), manager="test")
    eventually(partial(holds, api, "search", 22), "the mirror has the loan")
    # The operators write a project's usage at most every two seconds.
    eventually(lambda: all(reports_the_same(lab, api, name) for name in NAMES), "REST and kubectl report the same")
    assert sum(api.line("search", "a100")["borrowed_from"].values()) == 6
    shown = {one["name"]: one for one in api.ask("GET", "/v1/pools")["items"]}["a100"]
    counted = lab.get(pool("a100"))["status"]
    pairs = {"capacity": "capacity", "nodes": "nodes", "nominal": "nominal", "in_use": "inUse"}
    assert {field: shown[field] for field in pairs} == {field: counted[name] for field, name in pairs.items()}

    # the owner takes its own back: the borrower's job waits, and says why
    worker.create(valid_ray_job("speech", "own", workers=8), manager="test")
    eventually(partial(holds, api, "speech", 8), "the owner has its own")
    eventually(lambda: bool(api.line("search", "a100")["waiting"]), "the borrower's job waits again")
    [waiting] = api.line("search", "a100")["waiting"]
    # both were admitted within a second or two, and Kueue's clock has seconds
    assert waiting["job"] in {"wl-search/own", "wl-search/borrows"}
    assert (waiting["position"], waiting["reason"]["code"]) == (1, "preempted")
    assert "speech" in waiting["reason"]["message"]
    assert api.line("speech", "a100")["queue_time_p90_seconds"] is not None
    lab.delete(Ref(RAY_JOB, "own", "wl-speech"))
    eventually(partial(holds, api, "search", 22), "the borrower's job runs again")


def test_a_member_sees_their_project_without_cluster_rights(api: ControlPlaneProcess) -> None:
    made = api.ask("POST", "/v1/keys", {"user": "ada"})
    with api.client(made["secret"], api.url) as ada:
        lines = ada.get("/v1/projects/search/quotas").json()["items"]
        assert [(line["project"], line["pool"], line["nominal"]) for line in lines] == [("search", "a100", 16)]
        assert ada.get("/v1/projects/speech/quotas").status_code == 404
        assert ada.put("/v1/projects/search/quotas/a100", json={"nominal": 32}).status_code == 403


def test_a_quota_is_written_to_the_cluster_and_removed(lab: KubeClient, api: ControlPlaneProcess) -> None:
    reply = api.reply("PUT", "/v1/projects/search/quotas/h100", {"nominal": 0, "borrowing_limit": 8})
    assert reply.status_code == 202
    eventually(lambda: api.ask("GET", reply.headers["Location"])["state"] == "applied", "the worker has written it")
    assert desired_project(lab, "search", "h100") == {"pool": "h100", "nominal": 0, "borrowingLimit": 8}
    assert desired_project(lab, "search", "a100") == {"pool": "a100", "nominal": 16, "borrowingLimit": 8}
    eventually(lambda: api.line("search", "h100").get("borrowing_limit") == 8, "the mirror has it")
    assert api.line("search", "h100")["managed_by"] == ""
    assert api.reply("DELETE", "/v1/projects/search/quotas/h100").status_code == 202
    eventually(lambda: not api.line("search", "h100"), "it is gone")
    assert desired_project(lab, "search", "h100") == {}


def test_quotas_managed_by_gitops_are_a_conflict(lab: KubeClient, api: ControlPlaneProcess) -> None:
    assert api.line("search", "a100")["managed_by"] == GITOPS
    refused = api.reply("PUT", "/v1/projects/search/quotas/a100", {"nominal": 20, "borrowing_limit": 8})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert GITOPS in refused.json()["detail"]
    assert api.reply("DELETE", "/v1/projects/search/quotas/a100").status_code == 409
    assert desired_project(lab, "search", "a100")["nominal"] == 16


def test_crd_rules_reject_a_change_before_it_is_accepted(api: ControlPlaneProcess) -> None:
    refused = api.reply("PUT", "/v1/projects/search/quotas/h100", {"nominal": 1, "lending_limit": 2})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert "lend" in refused.json()["detail"]
    assert api.ask("GET", "/v1/cluster-sync")["pending_changes"] == 0


def test_a_preview_lists_the_jobs_that_would_start_and_stop(api: ControlPlaneProcess, worker: KubeClient) -> None:
    worker.create(queued_job("ranking", "borrows", 32), manager="test")
    eventually(partial(holds, api, "ranking", 32), "ranking borrows all that search and speech have")
    worker.create(queued_job("speech", "waits", 12), manager="test")
    eventually(lambda: api.line("speech", "a100")["pending"] == 1, "more than its own: it may not reclaim")
    tried = api.reply("PUT", "/v1/projects/speech/quotas/a100", {"nominal": 12}, dry_run="true")
    assert tried.status_code == 200
    assert (tried.json()["state"], GITOPS in tried.json()["problem"]) == ("refused", True)
    assert tried.json()["preempts"] == [{"job": "wl-ranking/borrows", "project": "ranking"}]


def test_the_simulation_of_a_job_matches_the_clusters_decision(
    api: ControlPlaneProcess, worker: KubeClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("inputs")
    with Client(api.url, api.key, project="speech") as client:
        ensure_test_data(client, tiny_encoder(folder / "tiny"), folder, project="speech")

    def predicted(gpus: int) -> Json:
        spec = {"task": "text-classification", "base_model": "tiny", "dataset": "rows", "model": "m"}
        body = {"spec": {**spec, "resources": {"pool": "a100", "gpus_per_worker": gpus}}}
        answer: Json = api.ask("POST", "/v1/projects/speech/jobs:simulate", body)
        return answer

    assert predicted(8)["verdict"] == "starts"
    worker.create(queued_job("speech", "first", 8), manager="test")
    eventually(partial(holds, api, "speech", 8), "the job that was predicted to start has started")
    worker.create(queued_job("search", "most", 20), manager="test")
    eventually(partial(holds, api, "search", 20), "there is nothing left to borrow")
    assert (predicted(1)["verdict"], predicted(1)["position"]) == ("waits", 1)
    worker.create(queued_job("speech", "second", 1), manager="test")
    eventually(lambda: api.line("speech", "a100")["pending"] == 1, "the job that was predicted to wait waits")
    assert predicted(1)["position"] == 2
    assert predicted(33)["verdict"] == "never"


def test_the_cluster_sync_catches_up_after_kill_9(
    lab: KubeClient, api: ControlPlaneProcess, worker: KubeClient
) -> None:
    before = api.line("speech", "a100")["version"]
    api.kill()
    worker.create(queued_job("speech", "meanwhile", 3), manager="test")
    lab.apply(_with_ceiling("ranking", 7), manager="somebody", force=True)
    api.start()
    eventually(partial(holds, api, "speech", 3), "what happened meanwhile is there")
    eventually(lambda: api.ask("GET", "/v1/projects/ranking")["priority_ceiling"] == 7, "and so is the new ceiling")
    assert api.line("speech", "a100")["version"] == before, "what did not change was not written"


def _with_ceiling(name: str, ceiling: int) -> Json:
    desired = {"apiVersion": PROJECT.api_version, "kind": PROJECT.kind, "metadata": {"name": name}}
    return desired | {"spec": {"jobs": {"priorityCeiling": ceiling}}}


def test_a_deleted_project_disappears_and_a_recreated_one_is_new(lab: KubeClient, api: ControlPlaneProcess) -> None:
    lab.apply(_plain("short"), manager="test")
    eventually(lambda: api.reply("GET", "/v1/projects/short").status_code == 200, "it is mirrored")
    first = api.ask("GET", "/v1/projects/short")["uid"]
    lab.delete(project("short"))
    eventually(lambda: api.reply("GET", "/v1/projects/short").status_code == 404, "it is gone", 60)
    lab.apply(_plain("short"), manager="test")
    eventually(lambda: api.reply("GET", "/v1/projects/short").status_code == 200, "it is mirrored again")
    assert api.ask("GET", "/v1/projects/short")["uid"] != first
    lab.delete(project("short"))
    eventually(lambda: api.reply("GET", "/v1/projects/short").status_code == 404, "it is gone again", 60)


def _plain(name: str) -> Json:
    return {"apiVersion": PROJECT.api_version, "kind": PROJECT.kind, "metadata": {"name": name}, "spec": {}}


def test_the_control_planes_account_has_minimal_rights(api: ControlPlaneProcess) -> None:
    for verb, what in (("delete", "projects"), ("patch", "clusterqueues"), ("get", "secrets"), ("create", "pods")):
        with pytest.raises(LocalClusterError):  # which is how kubectl says no
            kubectl(api.cluster, "auth", "can-i", verb, what, "--all-namespaces", f"--as={CONTROL}")
    kubectl(api.cluster, "auth", "can-i", "patch", "projects", f"--as={CONTROL}")
