"""The view of a real cluster says what the operators write into status and what kubectl prints."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.bed.cluster_api import apply, kubectl
from tests.integration.cluster.installed import WORKER, admin_of, control_of, guide, queued_job
from tests.integration.cluster.operating import Operators, becomes, pool, project, wish
from tests.integration.cluster.waiting import eventually

from windlass.domain.jobs import Reason
from windlass.domain.mirror import Mirror, QuotaChange, Share, id_of
from windlass.domain.projects import Role
from windlass.domain.quota import LedgerRow, ledger
from windlass.kube.changing import AppliedProjects
from windlass.kube.client import Client
from windlass.kube.kinds import CLUSTER_QUEUE, POOL, PROJECT, WORKLOAD
from windlass.kube.objects import Kind, Ref
from windlass.kube.view import REQUIRED, WatchedCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
JOB = Kind("batch/v1", "Job")
NAMES = ("search", "ranking", "speech")


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture(scope="module")
def lab(operator: Operators) -> Iterator[Operators]:
    """Pools and projects of the guide, ready, and a pool of the node that is real."""
    bare = wish(POOL, "real", {"nodeLabels": {"windlass.dev/pool": "real"}})
    tiny = wish(PROJECT, "tiny", {"quotas": [{"pool": "real", "nominal": 4}]})
    apply(operator.bed, [*guide("pools.yaml"), bare, *guide("projects.yaml"), tiny])
    for name in (*NAMES, "tiny"):
        becomes(operator.client, project(name), "Reconciled")
    yield operator
    assert operator.exit_code is None, operator.log.read_text()[-4000:]


@pytest.fixture
def worker(lab: Operators) -> Iterator[Client]:
    yield admin_of(lab.bed, impersonate=WORKER)
    client = lab.client
    spaces = [f"wl-{name}" for name in (*NAMES, "tiny")]
    for ref in [Ref.of(one) for space in spaces for one in client.list(JOB, space).items]:
        client.delete(ref)
    eventually(lambda: not any(client.list(WORKLOAD, space).items for space in spaces), "all is given back", 60)


@pytest.fixture(scope="module")
def view(lab: Operators) -> Iterator[WatchedCluster]:
    """With the rights of the control plane."""
    watching = WatchedCluster(control_of(lab.bed), Now())
    watching.start()
    yield watching
    began = time.monotonic()
    watching.stop()
    assert time.monotonic() - began < 3, "open watches end at once"


def until(view: WatchedCluster, there: Callable[[Mirror], bool], what: str, seconds: float = 30) -> Mirror:
    """Look whenever there is news, until the mirror is as expected."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        view.wait(1)
        if all(one.read for kind, one in view.health().items() if kind in REQUIRED) and there(seen := view.look()):
            return seen
    raise AssertionError(f"not within {seconds} s: {what}; {view.health()}")


def account(mirror: Mirror, name: str, of: str = "a100") -> LedgerRow:
    return next(row for row in ledger(mirror.snapshot) if (row.project, row.pool) == (name, of))


def row_of(client: Client, name: str, of: str = "a100") -> Json:
    return next(dict(row) for row in client.get(project(name))["status"]["quotas"] if row["pool"] == of)


def loans(rows: list[Json]) -> dict[str, int]:
    return {row["project"]: row["gpus"] for row in rows}


def agrees(mirror: Mirror, client: Client, name: str) -> bool:
    """Whether the view's account is the one that the operators have written."""
    mine, theirs = account(mirror, name), row_of(client, name)
    return (mine.nominal, mine.used, mine.pending, mine.reclaimable, mine.borrowed_from, mine.lent_to) == (
        theirs["nominal"],
        theirs["used"],
        theirs["pending"],
        theirs["reclaimable"],
        loans(theirs["borrowedFrom"]),
        loans(theirs["lentTo"]),
    )


def reason(mirror: Mirror, job: str) -> Reason | None:
    return mirror.reasons.get(job)


def test_pools_and_projects_are_as_their_resources_say(lab: Operators, view: WatchedCluster) -> None:
    mirror = until(view, lambda seen: len(seen.projects) == 4, "all projects are seen")
    raw = lab.client.get(pool("a100"))
    [a100] = [one for one in mirror.pools if one.name == "a100"]
    assert a100.id == id_of("pool", raw["metadata"]["uid"])
    assert (a100.capacity, a100.nodes, a100.ready_nodes, a100.allocatable) == tuple(
        raw["status"][name] for name in ("capacity", "nodes", "readyNodes", "allocatable")
    )
    assert (a100.capacity, a100.problem, a100.version) == (32, "", raw["metadata"]["generation"])
    raw = lab.client.get(project("search"))
    [search] = [one for one in mirror.projects if one.project.name == "search"]
    assert search.project.id == id_of("prj", raw["metadata"]["uid"])
    assert search.project.cohort == "lab"
    users = {one["name"]: one["role"] for one in raw["spec"].get("members", ()) if one["kind"] == "User"}
    assert {one.user: one.role for one in search.members} == {name: Role(role) for name, role in users.items()}
    quotas = {one["pool"]: one["nominal"] for one in raw["spec"]["quotas"]}
    assert {one.pool: one.nominal for one in search.quotas} == quotas
    assert {one.managed_by for one in search.quotas} == {"bed"}
    assert mirror.notes == ()


def test_borrowing_reads_the_same_here_in_status_and_on_the_screen(
    lab: Operators, view: WatchedCluster, worker: Client
) -> None:
    client = lab.client
    worker.create(queued_job("search", "wide", 20), manager="test")
    until(view, lambda seen: account(seen, "search").used == 20, "the job holds its GPUs")
    worker.create(queued_job("search", "too-much", 8), manager="test")
    mirror = until(view, lambda seen: account(seen, "search").pending == 1, "the next one waits")
    mirror = until(view, lambda seen: all(agrees(seen, client, name) for name in NAMES), "the operators say the same")
    mine = account(mirror, "search")
    assert (mine.borrowed, sum(mine.borrowed_from.values())) == (4, 4)
    shown = kubectl(lab.bed, "get", "projects")
    [line] = [line for line in shown.splitlines() if line.startswith("search")]
    total = [row for row in ledger(mirror.snapshot) if row.project == "search"]
    assert line.split()[1:5] == [
        "lab",
        *(str(sum(getattr(row, name) for row in total)) for name in ("nominal", "used", "pending")),
    ]
    mirror = until(view, lambda seen: "wl-search/too-much" in seen.reasons, "somebody says why it waits")
    waits = reason(mirror, "wl-search/too-much")
    assert waits is not None
    assert waits.code == "borrowing_limit_reached"
    assert (waits.facts["position"], waits.facts["needed"], waits.facts["limit"]) == (1, 8, 8)
    assert reason(mirror, "wl-search/wide") is None, "what runs needs no reason"


def test_the_place_in_the_line_is_kueues_own_word(lab: Operators, view: WatchedCluster, worker: Client) -> None:
    worker.create(queued_job("speech", "blocks", 100), manager="test")
    time.sleep(1.1)  # of what was made in the same second the uid decides
    for number in range(3):
        worker.create(queued_job("speech", f"next-{number}", 1), manager="test")
    waiting = {f"wl-speech/next-{number}" for number in range(3)} | {"wl-speech/blocks"}
    mirror = until(
        view, lambda seen: waiting <= set(seen.reasons) and bool(view._lines.answers()), "all of them have a reason"
    )
    line = next(line for queue, line in view._lines.answers().items() if queue == "speech.a100")
    assert len(line.items) == 4
    places = {key: mirror.reasons[key].facts["position"] for key in waiting}
    assert sorted(places.values()) == [1, 2, 3, 4]
    assert places["wl-speech/blocks"] == 1
    assert mirror.reasons["wl-speech/blocks"].code == "exceeds_max_quota"
    assert mirror.reasons["wl-speech/next-0"].code == "behind_head_of_queue"


def test_what_is_admitted_and_does_not_run_has_its_pods_reason(
    lab: Operators, view: WatchedCluster, worker: Client
) -> None:
    worker.create(queued_job("tiny", "no-image", 1, pool="real"), manager="test")

    def told(seen: Mirror) -> bool:
        found = reason(seen, "wl-tiny/no-image")
        return found is not None and found.code == "image_pull_failed" and "no-node-pulls-it" in found.facts["detail"]

    mirror = until(view, told, "the kubelet cannot get the image", 90)
    assert mirror.reasons["wl-tiny/no-image"].facts["node"] == "bed"


def test_news_wakes_and_calm_does_not(lab: Operators, view: WatchedCluster) -> None:
    until(view, lambda seen: len(seen.projects) == 4, "everything is read")
    while view.wait(2):
        view.look()
    assert not view.wait(0.5)
    began = time.monotonic()
    lab.client.patch(project("tiny"), {"spec": {"displayName": f"Tiny {began}"}}, manager="test")
    assert view.wait(10)
    assert time.monotonic() - began < 2
    [tiny] = [one.project for one in view.look().projects if one.project.name == "tiny"]
    assert tiny.display_name == f"Tiny {began}"


def test_who_watches_from_too_long_ago_lists_again_and_misses_nothing(lab: Operators, view: WatchedCluster) -> None:
    until(view, lambda seen: len(seen.projects) == 4, "everything is read")
    feed = view._keeper._feeds[CLUSTER_QUEUE]
    feed._version = "1"  # the server keeps no changes of a kind from before it served it
    feed.interrupt()
    eventually(lambda: int(feed._version or 0) > 1, "it has listed again")
    apply(lab.bed, [wish(PROJECT, "late", {"quotas": [{"pool": "a100", "nominal": 1}]})])
    try:
        mirror = until(view, lambda seen: any(one.project == "late" for one in seen.snapshot.quotas), "the new queue")
        assert account(mirror, "late").nominal == 1
    finally:
        lab.client.delete(project("late"))
    until(view, lambda seen: all(one.project.name != "late" for one in seen.projects), "it is gone", 60)


def test_a_project_in_deletion_still_counts(lab: Operators, view: WatchedCluster, worker: Client) -> None:
    client = lab.client
    apply(lab.bed, [wish(PROJECT, "leaving", {"cohort": "lab", "quotas": [{"pool": "a100", "nominal": 1}]})])
    becomes(client, project("leaving"), "Reconciled")
    worker.create(queued_job("leaving", "last", 1), manager="test")
    until(view, lambda seen: any(one.project == "leaving" for one in seen.snapshot.claims), "its job is seen")
    client.delete(project("leaving"))
    time.sleep(1)
    mirror = view.look()
    assert "leaving" in {one.project.name for one in mirror.projects}
    assert account(mirror, "leaving").used == 1
    client.patch(project("leaving"), {"spec": {"whenDeleted": "Cancel"}}, manager="test")
    until(view, lambda seen: all(one.project.name != "leaving" for one in seen.projects), "it is gone", 90)


def test_a_change_is_seen_with_whom_it_belongs_to(lab: Operators, view: WatchedCluster) -> None:
    resources = AppliedProjects(control_of(lab.bed))
    uid = lab.client.get(project("tiny"))["metadata"]["uid"]
    change = QuotaChange(
        id="qc_1",
        project=id_of("prj", uid),
        name="tiny",
        pool="h100",
        share=Share(nominal=2),
        created_by="ada",
        created_at=datetime.now(UTC),
    )
    resources.apply(change)

    def quotas(seen: Mirror) -> dict[str, tuple[int, str]]:
        [tiny] = [one for one in seen.projects if one.project.name == "tiny"]
        return {one.pool: (one.nominal, one.managed_by) for one in tiny.quotas}

    until(view, lambda seen: quotas(seen) == {"real": (4, "bed"), "h100": (2, "")}, "both quotas")
    until(view, lambda seen: any((one.project, one.pool) == ("tiny", "h100") for one in seen.snapshot.quotas), "queue")
    resources.apply(change.model_copy(update={"share": None}))
    until(view, lambda seen: quotas(seen) == {"real": (4, "bed")}, "one is gone")
    by_hand = {"apiVersion": PROJECT.api_version, "kind": "Project", "metadata": {"name": "tiny"}}
    by_hand["spec"] = {"quotas": [{"pool": "h100", "nominal": 1}]}
    kubectl(lab.bed, "apply", "--server-side", "-f", "-", given=json.dumps(by_hand))
    until(view, lambda seen: quotas(seen) == {"real": (4, "bed"), "h100": (1, "kubectl")}, "another one's")
