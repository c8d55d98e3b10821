"""What is said of pools and projects, from what was observed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.operators import wishes

from windlass.kube.objects import Kind, Ref
from windlass.kube.resources import GPUPool, Project, condition
from windlass_operators.children import Refusal
from windlass_operators.decide import READY, Verdict, claims, events, gpu_pool, project

Json = dict[str, Any]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
POOLS = {"a100": wishes.pool("a100"), "h100": wishes.pool("h100")}
SPACE: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wl-search"}}
ACTIVE = {"status": {"conditions": [{"type": "Active", "status": "True"}]}}


def seen(*projects: Project, workloads: tuple[Json, ...] = (), **fields: Any) -> project.Seen:
    queues = {f"{one.metadata.name}.{quota.pool}": ACTIVE for one in projects for quota in one.spec.quotas}
    given: Json = {"namespace": SPACE, "queues": queues} | fields
    by_name = {one.metadata.name: one for one in projects}
    return project.Seen(pools=POOLS, projects=by_name, claims=list(claims.claims(workloads, POOLS)), **given)


def ready(of: Any) -> tuple[str, str, str]:
    [found] = [one for one in of.conditions if one.type == READY]
    return found.status, found.reason, found.message


def two(**limits: Any) -> tuple[Project, Project]:
    quota = {"pool": "a100", "nominal": 8} | limits
    return wishes.project(quota, cohort="lab"), wishes.project(quota, name="ranking", uid="r", cohort="lab")


def test_borrowed_and_lent_are_said_on_both_sides() -> None:
    search, ranking = two()
    held = (wishes.workload("search", "big", 12), wishes.workload("ranking", "later", 8, held=False))
    mine = project.status(search, seen(search, ranking, workloads=held), (), NOW)
    theirs = project.status(ranking, seen(search, ranking, workloads=held), (), NOW)
    [row], [other] = mine.quotas, theirs.quotas
    assert (mine.used, mine.nominal, row.used, row.overcommitted) == (12, 8, 12, 0)
    assert [(loan.project, loan.gpus) for loan in row.borrowed_from] == [("ranking", 4)]
    assert [(loan.project, loan.gpus) for loan in other.lent_to] == [("search", 4)]
    assert (other.reclaimable, other.pending, theirs.pending) == (4, 1, 1)
    assert ready(mine) == ("True", "Reconciled", "namespace wl-search and 1 queue take work")
    assert {one.observed_generation for one in mine.conditions} == {3}


def test_what_no_quota_covers_any_more_is_overcommitted() -> None:
    lowered = wishes.project({"pool": "a100", "nominal": 2})
    held = (wishes.workload("search", "big", 5), wishes.workload("search", "other", 3, "h100"))
    found = project.status(lowered, seen(lowered, workloads=held), (), NOW)
    assert [(row.pool, row.used, row.overcommitted) for row in found.quotas] == [("a100", 5, 3), ("h100", 3, 3)]
    [over] = [one for one in found.conditions if one.type == project.OVERCOMMITTED]
    assert (over.status, over.reason) == ("True", "HeldBeyondQuota")
    assert "3 of pool a100, 3 of pool h100" in over.message


def test_each_thing_in_the_way_has_its_reason() -> None:
    wish = wishes.project({"pool": "a100", "nominal": 2})
    strange = wishes.project({"pool": "b200", "nominal": 2})
    refusal = Refusal(Ref(Kind("v1", "Namespace"), "wl-search"), "NotOurs", "Namespace wl-search exists")
    inactive = {"status": {"conditions": [{"type": "Active", "status": "False", "message": "no flavor"}]}}
    ending = SPACE | {"metadata": {"name": "wl-search", "deletionTimestamp": wishes.MADE}}
    cases = [
        (wish, seen(wish), (refusal,), "NotOurs"),
        (strange, seen(strange), (), "UnknownPool"),
        (wish, seen(wish, namespace=ending), (), "Terminating"),
        (wish, seen(wish, queues={}), (), "QueueNotSeen"),
        (wish, seen(wish, queues={"search.a100": inactive}), (), "QueueInactive"),
    ]
    for subject, observed, refusals, reason in cases:
        status, said, message = ready(project.status(subject, observed, refusals, NOW))
        assert (status, said) == ("False", reason)
        assert message


def pool_status(pool: GPUPool, *nodes: Json, pools: dict[str, GPUPool] | None = None, **fields: Any) -> Any:
    given: Json = {"projects": {}, "claims": ()} | fields
    return gpu_pool.status(pool, gpu_pool.Seen(pools=pools or {"a100": pool}, nodes=nodes, **given), (), NOW)


def test_a_pool_counts_its_nodes_and_who_holds_it() -> None:
    search, ranking = two()
    held = [wishes.workload("ranking", "w", 3), wishes.workload("search", "v", 5), wishes.workload("search", "u", 1)]
    nodes = [wishes.node("a"), wishes.node("b", ready=False), wishes.node("c", cordoned=True), wishes.node("h", "h100")]
    found = pool_status(
        POOLS["a100"],
        *nodes,
        projects={"search": search, "ranking": ranking},
        claims=list(claims.claims(held, POOLS)),
    )
    assert (found.nodes, found.ready_nodes, found.capacity, found.allocatable) == (3, 1, 24, 8)
    assert (found.nominal, found.in_use) == (16, 9)
    assert [(use.project, use.gpus) for use in found.used_by] == [("search", 6), ("ranking", 3)]
    assert ready(found)[1] == "Reconciled"


def test_a_pool_says_what_is_wrong_with_its_nodes() -> None:
    alone = POOLS["a100"]
    twin = wishes.pool("twin", nodeLabels={"windlass.dev/pool": "a100"})
    assert ready(pool_status(alone))[:2] == ("False", "NoNodes")
    assert ready(pool_status(alone, wishes.node("a", ready=False)))[:2] == ("False", "NoReadyNode")
    shared = pool_status(alone, wishes.node("a"), pools={"a100": alone, "twin": twin})
    assert ready(shared)[:2] == ("False", "NodesShared")
    assert "twin" in ready(shared)[2]
    other = wishes.pool("twin", nodeLabels={"windlass.dev/pool": "a100"}, resourceName="amd.com/gpu")
    assert ready(pool_status(alone, wishes.node("a"), pools={"a100": alone, "twin": other}))[1] == "Reconciled"


def test_more_promised_than_there_is_is_said() -> None:
    greedy = wishes.project({"pool": "a100", "nominal": 9})
    found = pool_status(POOLS["a100"], wishes.node("a"), projects={"search": greedy})
    [over] = [one for one in found.conditions if one.type == gpu_pool.OVERCOMMITTED]
    assert (over.status, over.message[:36]) == ("True", "projects are promised 9 of 8 GPUs: n")


def test_a_pool_in_use_says_by_whom() -> None:
    quotas = [("search", "a100"), ("ranking", "a100"), ("other", "h100")]
    assert gpu_pool.held_by("a100", quotas) == ["projects have quotas of it: ranking, search; take them away first"]
    assert gpu_pool.held_by("b200", quotas) == []


def test_a_workload_is_a_claim_of_what_it_holds_or_else_of_what_it_waits_for() -> None:
    ended = wishes.workload("search", "ended", 4)
    ended["status"]["conditions"] = [{"type": "Finished", "status": "True"}]
    paused = wishes.workload("search", "paused", 4, held=False)
    paused["spec"]["active"] = False
    young = wishes.workload("search", "young", 4, held=False)
    del young["status"]
    elsewhere = wishes.workload("search", "elsewhere", 4)
    elsewhere["metadata"]["namespace"] = "default"
    cpu_only = wishes.workload("search", "cpu", 0)
    other = wishes.workload("search", "other", 4, resource="amd.com/gpu")
    waits = wishes.workload("search", "waits", 4, "h100", held=False)
    found = list(claims.claims([ended, paused, young, elsewhere, cpu_only, other, waits], POOLS))
    assert [(one.job, one.pool, one.gpus, one.admitted_at is None) for one in found] == [
        ("wl-search/young/a100", "a100", 1, True),
        ("wl-search/waits/h100", "h100", 4, True),
    ]


@pytest.mark.parametrize(("text", "number"), [("8", 8), (8, 8), ("1k", 1000), ("2M", 2_000_000), ("0", 0)])
def test_quantities_of_gpus_are_whole_numbers(text: str | int, number: int) -> None:
    assert claims.amount(text) == number


@pytest.mark.parametrize("text", ["", "1.5", "-k", "8Gi", "many"])
def test_other_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        claims.amount(text)


def test_only_news_becomes_an_event_and_time_moves_only_with_the_status() -> None:
    def said(verdict: Verdict, before: Any, now: datetime) -> Any:
        status, reason, message = verdict.status, verdict.reason, verdict.message
        return condition(before, READY, status=status, reason=reason, message=message, generation=1, now=now)

    good = Verdict(status=True, reason="Reconciled", message="all stands")
    bad = Verdict(status=False, reason="NotOurs", message="in the way")
    first = said(good, [], NOW)
    later = said(good, [first], NOW + timedelta(hours=1))
    broken = said(bad, [later], NOW + timedelta(hours=2))
    assert [(one.type, one.reason) for one in events([], [first])] == [("Normal", "Reconciled")]
    assert events([first], [later]) == []
    assert later.last_transition_time == NOW
    assert [(one.type, one.message) for one in events([later], [broken])] == [("Warning", "in the way")]
    assert broken.last_transition_time == NOW + timedelta(hours=2)
