"""The control plane on a real cluster: what REST says is what kubectl says, and who may change what."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from tests.bed.cluster_api import kubectl
from tests.bed.failures import BedError
from tests.e2e.conftest import furnish
from tests.factories.tiny_models import tiny_encoder
from tests.integration.cluster.installed import CONTROL, WORKER, admin_of, guide, honest_ray_job, queued_job
from tests.integration.cluster.operating import Operators, becomes, pool, project
from tests.integration.cluster.serving import ControlPlane
from tests.integration.cluster.waiting import eventually

from windlass.kube.client import Client
from windlass.kube.objects import Kind, Ref
from windlass.sdk import Client as SdkClient
from windlass_operators.kinds import PROJECT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB, RAY_JOB = Kind("batch/v1", "Job"), Kind("ray.io/v1", "RayJob")
NAMES = ("search", "ranking", "speech")
GITOPS = "gitops"


@pytest.fixture(scope="module")
def lab(operator: Operators) -> Iterator[Client]:
    """The guide's pools and projects, which a GitOps tool applies."""
    for one in [*guide("pools.yaml"), *guide("projects.yaml")]:
        operator.client.apply(one, manager=GITOPS)
    for name in NAMES:
        becomes(operator.client, project(name), "Reconciled")
    yield operator.client
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture(scope="module")
def api(lab: Client, control_plane: ControlPlane) -> ControlPlane:
    eventually(lambda: len(control_plane.ask("GET", "/v1/quotas")["items"]) == 5, "the ledger has all lines")
    return control_plane


@pytest.fixture
def worker(lab: Client, api: ControlPlane) -> Iterator[Client]:
    """Who submits jobs; they are gone afterwards."""
    yield admin_of(api.bed, impersonate=WORKER)
    for name in NAMES:
        for kind in (JOB, RAY_JOB):
            for one in lab.list(kind, f"wl-{name}").items:
                lab.delete(Ref.of(one))
    eventually(
        lambda: all(one["used"] == one["pending"] == 0 for one in api.ask("GET", "/v1/quotas")["items"]), "all is free"
    )


def wished(lab: Client, name: str, pool_name: str) -> Json:
    quotas = lab.get(project(name))["spec"]["quotas"]
    return next((one for one in quotas if one["pool"] == pool_name), {})


def holds(api: ControlPlane, name: str, gpus: int) -> bool:
    return bool(api.line(name, "a100").get("used") == gpus)


def test_rest_and_kubectl_tell_the_same_numbers_of_a_loan(lab: Client, api: ControlPlane, worker: Client) -> None:
    worker.create(honest_ray_job("search", "own", workers=12), manager="test")
    worker.create(honest_ray_job("search", "borrows", workers=10), manager="test")
    eventually(partial(holds, api, "search", 22), "the mirror has the loan")
    status = {name: lab.get(project(name))["status"]["quotas"][0] for name in NAMES}
    for name in NAMES:
        line, told = api.line(name, "a100"), status[name]
        same = ("nominal", "used", "pending", "reclaimable", "overcommitted")
        assert {field: line[field] for field in same} == {field: told[field] for field in same}
        for ours, theirs in (("borrowed_from", "borrowedFrom"), ("lent_to", "lentTo")):
            assert line[ours] == {loan["project"]: loan["gpus"] for loan in told[theirs]}
    assert sum(api.line("search", "a100")["borrowed_from"].values()) == 6
    shown = {one["name"]: one for one in api.ask("GET", "/v1/pools")["items"]}["a100"]
    counted = lab.get(pool("a100"))["status"]
    pairs = {"capacity": "capacity", "nodes": "nodes", "nominal": "nominal", "in_use": "inUse"}
    assert {field: shown[field] for field in pairs} == {field: counted[name] for field, name in pairs.items()}

    # the owner takes its own back: the borrower's job waits, and says why
    worker.create(honest_ray_job("speech", "own", workers=8), manager="test")
    eventually(partial(holds, api, "speech", 8), "the owner has its own")
    eventually(lambda: bool(api.line("search", "a100")["waiting"]), "the borrower's job waits again")
    [waiting] = api.line("search", "a100")["waiting"]
    # both were admitted within a second or two, and Kueue's clock has seconds
    assert waiting["job"] in {"wl-search/own", "wl-search/borrows"}
    assert (waiting["position"], waiting["reason"]["code"]) == (1, "preempted")
    assert "speech" in waiting["reason"]["message"]
    assert api.line("speech", "a100")["wait_p90_seconds"] is not None
    lab.delete(Ref(RAY_JOB, "own", "wl-speech"))
    eventually(partial(holds, api, "search", 22), "the borrower's job runs again")


def test_a_member_sees_the_own_project_without_any_right_in_the_cluster(api: ControlPlane) -> None:
    made = api.ask("POST", "/v1/keys", {"user": "ada"})
    with api.client(made["secret"], api.url) as ada:
        lines = ada.get("/v1/projects/search/quotas").json()["items"]
        assert [(line["project"], line["pool"], line["nominal"]) for line in lines] == [("search", "a100", 16)]
        assert ada.get("/v1/projects/speech/quotas").status_code == 404
        assert ada.put("/v1/projects/search/quotas/a100", json={"nominal": 32}).status_code == 403


def test_a_new_quota_is_written_into_the_cluster_and_taken_out_again(lab: Client, api: ControlPlane) -> None:
    reply = api.reply("PUT", "/v1/projects/search/quotas/h100", {"nominal": 0, "borrowing_limit": 8})
    assert reply.status_code == 202
    eventually(lambda: api.ask("GET", reply.headers["Location"])["state"] == "applied", "the worker has written it")
    assert wished(lab, "search", "h100") == {"pool": "h100", "nominal": 0, "borrowingLimit": 8}
    assert wished(lab, "search", "a100") == {"pool": "a100", "nominal": 16, "borrowingLimit": 8}
    eventually(lambda: api.line("search", "h100").get("borrowing_limit") == 8, "the mirror has it")
    assert api.line("search", "h100")["managed_by"] == ""
    assert api.reply("DELETE", "/v1/projects/search/quotas/h100").status_code == 202
    eventually(lambda: not api.line("search", "h100"), "it is gone")
    assert wished(lab, "search", "h100") == {}


def test_what_a_gitops_tool_manages_is_its_own(lab: Client, api: ControlPlane) -> None:
    assert api.line("search", "a100")["managed_by"] == GITOPS
    refused = api.reply("PUT", "/v1/projects/search/quotas/a100", {"nominal": 20, "borrowing_limit": 8})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert GITOPS in refused.json()["detail"]
    assert api.reply("DELETE", "/v1/projects/search/quotas/a100").status_code == 409
    assert wished(lab, "search", "a100")["nominal"] == 16


def test_rules_of_the_resource_refuse_before_anything_is_accepted(api: ControlPlane) -> None:
    refused = api.reply("PUT", "/v1/projects/search/quotas/h100", {"nominal": 1, "lending_limit": 2})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert "lend" in refused.json()["detail"]
    assert api.ask("GET", "/v1/mirror")["pending_changes"] == 0


def test_a_trial_names_the_jobs_that_would_start_and_stop(api: ControlPlane, worker: Client) -> None:
    worker.create(queued_job("ranking", "borrows", 32), manager="test")
    eventually(partial(holds, api, "ranking", 32), "ranking borrows all that search and speech have")
    worker.create(queued_job("speech", "waits", 12), manager="test")
    eventually(lambda: api.line("speech", "a100")["pending"] == 1, "more than its own: it may not reclaim")
    tried = api.reply("PUT", "/v1/projects/speech/quotas/a100", {"nominal": 12}, dry_run="true")
    assert tried.status_code == 200
    assert (tried.json()["state"], GITOPS in tried.json()["problem"]) == ("refused", True)
    assert tried.json()["preempts"] == [{"job": "wl-ranking/borrows", "project": "ranking"}]


def test_a_job_is_simulated_as_the_cluster_then_decides(
    api: ControlPlane, worker: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("inputs")
    with SdkClient(api.url, api.key, project="speech") as client:
        furnish(client, tiny_encoder(folder / "tiny"), folder, project="speech")

    def foreseen(gpus: int) -> Json:
        spec = {"task": "text-classification", "base_model": "tiny", "dataset": "rows", "model": "m"}
        body = {"spec": {**spec, "resources": {"pool": "a100", "workers": gpus}}}
        answer: Json = api.ask("POST", "/v1/projects/speech/jobs:simulate", body)
        return answer

    assert foreseen(8)["verdict"] == "starts"
    worker.create(queued_job("speech", "first", 8), manager="test")
    eventually(partial(holds, api, "speech", 8), "what was foreseen to start has started")
    worker.create(queued_job("search", "most", 20), manager="test")
    eventually(partial(holds, api, "search", 20), "there is nothing left to borrow")
    assert (foreseen(1)["verdict"], foreseen(1)["position"]) == ("waits", 1)
    worker.create(queued_job("speech", "second", 1), manager="test")
    eventually(lambda: api.line("speech", "a100")["pending"] == 1, "what was foreseen to wait waits")
    assert foreseen(1)["position"] == 2
    assert foreseen(33)["verdict"] == "never"


def test_the_mirror_is_right_again_after_kill_9_and_changes_of_the_meantime(
    lab: Client, api: ControlPlane, worker: Client
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
    wish = {"apiVersion": PROJECT.api_version, "kind": PROJECT.kind, "metadata": {"name": name}}
    return wish | {"spec": {"jobs": {"priorityCeiling": ceiling}}}


def test_a_project_that_is_deleted_is_gone_here_too_and_made_again_is_another(lab: Client, api: ControlPlane) -> None:
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


def test_the_account_of_the_control_plane_can_do_no_more_than_it_needs(api: ControlPlane) -> None:
    for verb, what in (("delete", "projects"), ("patch", "clusterqueues"), ("get", "secrets"), ("create", "pods")):
        with pytest.raises(BedError):  # which is how kubectl says no
            kubectl(api.bed, "auth", "can-i", verb, what, "--all-namespaces", f"--as={CONTROL}")
    kubectl(api.bed, "auth", "can-i", "patch", "projects", f"--as={CONTROL}")
