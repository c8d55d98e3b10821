"""Status of pools and projects from observations."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.operators import desired_objects

from windlass.kube.kueue.cluster_objects import Node
from windlass.kube.kueue.parse import parse_workload
from windlass.kube.kueue.queues import ClusterQueue, LocalQueue
from windlass.kube.kueue.snapshot import KueueState, demands_from_workloads
from windlass.kube.objects import Kind, Ref
from windlass.kube.resources import GPUPool, Project, ProjectQuota, condition
from windlass_operators.children import ApplyFailure
from windlass_operators.decide import READY, ConditionResult, events, gpu_pool, project
from windlass_operators.render import queues

Json = dict[str, Any]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
POOLS = {"a100": desired_objects.pool("a100"), "h100": desired_objects.pool("h100")}


def any_quota(pool: str) -> ProjectQuota:
    return ProjectQuota(pool=pool, nominal=0)


SPACE: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wl-search"}}
ACTIVE = {"status": {"conditions": [{"type": "Active", "status": "True"}]}}


def observe(*projects: Project, workloads: tuple[Json, ...] = (), **fields: Any) -> project.ProjectObservation:
    """The observation of the first project; the queue of a pool may outlive its quota."""
    active = {f"{one.metadata.name}.{quota.pool}": ACTIVE for one in projects for quota in one.spec.quotas}
    given: Json = {"namespace": SPACE, "queues": active} | fields
    by_name = {one.metadata.name: one for one in projects}
    rendered = [
        each
        for one in projects
        for pool in POOLS
        for each in queues.objects(
            one.model_copy(update={"spec": one.spec.model_copy(update={"quotas": [any_quota(pool)]})}), POOLS
        )
    ]
    state = KueueState(
        now=NOW,
        pools=tuple(POOLS.values()),
        cluster_queues=ClusterQueue.parse_all(one for one in rendered if one["kind"] == "ClusterQueue"),
        local_queues=LocalQueue.parse_all(one for one in rendered if one["kind"] == "LocalQueue"),
        workloads=tuple(parse_workload(one) for one in workloads),
    )
    usage = project.usage_by_project(POOLS, by_name, demands_from_workloads(state))
    return project.ProjectObservation(pools=POOLS, usage=usage.get(projects[0].metadata.name, {}), **given)


def ready(of: Any) -> tuple[str, str, str]:
    [found] = [one for one in of.conditions if one.type == READY]
    return found.status, found.reason, found.message


def two_projects(**limits: Any) -> tuple[Project, Project]:
    quota = {"pool": "a100", "nominal": 8} | limits
    return desired_objects.project(quota, cohort="lab"), desired_objects.project(
        quota, name="ranking", uid="r", cohort="lab"
    )


def test_loans_are_reported_on_both_sides() -> None:
    search, ranking = two_projects()
    admitted = (
        desired_objects.workload("search", "big", 12),
        desired_objects.workload("ranking", "later", 8, admitted=False),
    )
    mine = project.status(search, observe(search, ranking, workloads=admitted), (), NOW)
    theirs = project.status(ranking, observe(ranking, search, workloads=admitted), (), NOW)
    [row], [other] = mine.quotas, theirs.quotas
    assert (mine.used, mine.nominal, row.used, row.overcommitted) == (12, 8, 12, 0)
    assert [(loan.project, loan.gpus) for loan in row.borrowed_from] == [("ranking", 4)]
    assert [(loan.project, loan.gpus) for loan in other.lent_to] == [("search", 4)]
    assert (other.reclaimable, other.pending, theirs.pending) == (4, 1, 1)
    assert ready(mine) == ("True", "Reconciled", "namespace wl-search and 1 queue are ready")
    assert {one.observed_generation for one in mine.conditions} == {3}


def test_usage_above_quota_is_overcommitted() -> None:
    lowered = desired_objects.project({"pool": "a100", "nominal": 2})
    admitted = (desired_objects.workload("search", "big", 5), desired_objects.workload("search", "other", 3, "h100"))
    found = project.status(lowered, observe(lowered, workloads=admitted), (), NOW)
    assert [(row.pool, row.used, row.overcommitted) for row in found.quotas] == [("a100", 5, 3), ("h100", 3, 3)]
    [over] = [one for one in found.conditions if one.type == project.OVERCOMMITTED]
    assert (over.status, over.reason) == ("True", "UsageAboveQuota")
    assert "3 of pool a100, 3 of pool h100" in over.message


def test_each_problem_has_its_reason() -> None:
    manifest = desired_objects.project({"pool": "a100", "nominal": 2})
    strange = desired_objects.project({"pool": "b200", "nominal": 2})
    failure = ApplyFailure(Ref(Kind("v1", "Namespace"), "wl-search"), "NotOwned", "Namespace wl-search exists")
    inactive = {"status": {"conditions": [{"type": "Active", "status": "False", "message": "no flavor"}]}}
    ending = SPACE | {"metadata": {"name": "wl-search", "deletionTimestamp": desired_objects.MADE}}
    cases = [
        (manifest, observe(manifest), (failure,), "NotOwned"),
        (strange, observe(strange), (), "UnknownPool"),
        (manifest, observe(manifest, namespace=ending), (), "Terminating"),
        (manifest, observe(manifest, queues={}), (), "QueueNotReconciled"),
        (manifest, observe(manifest, queues={"search.a100": inactive}), (), "QueueInactive"),
    ]
    for subject, observed, failures, reason in cases:
        status, found, message = ready(project.status(subject, observed, failures, NOW))
        assert (status, found) == ("False", reason)
        assert message


def pool_status(pool: GPUPool, *nodes: Json, pools: dict[str, GPUPool] | None = None, **fields: Any) -> Any:
    given: Json = {"projects": {}, "used": {}} | fields
    parsed = Node.parse_all(nodes)
    return gpu_pool.status(
        pool, gpu_pool.PoolObservation(pools=pools or {"a100": pool}, nodes=parsed, **given), (), NOW
    )


def test_pool_counts_nodes_and_usage() -> None:
    search, ranking = two_projects()
    nodes = [
        desired_objects.node("a"),
        desired_objects.node("b", ready=False),
        desired_objects.node("c", cordoned=True),
        desired_objects.node("h", "h100"),
    ]
    found = pool_status(
        POOLS["a100"],
        *nodes,
        projects={"search": search, "ranking": ranking},
        used={"ranking": 3, "search": 6},
    )
    assert (found.nodes, found.ready_nodes, found.capacity, found.allocatable) == (3, 1, 24, 8)
    assert (found.nominal, found.in_use) == (16, 9)
    assert [(use.project, use.gpus) for use in found.used_by] == [("search", 6), ("ranking", 3)]
    assert ready(found)[1] == "Reconciled"


def test_pool_reports_node_problems() -> None:
    alone = POOLS["a100"]
    twin = desired_objects.pool("twin", nodeLabels={"windlass.dev/pool": "a100"})
    assert ready(pool_status(alone))[:2] == ("False", "NoNodes")
    unusable = ready(pool_status(alone, desired_objects.node("a", ready=False)))
    assert unusable == ("False", "NoUsableNode", "none of 1 nodes takes pods of this pool: node a is not ready")
    shared = pool_status(alone, desired_objects.node("a"), pools={"a100": alone, "twin": twin})
    assert ready(shared)[:2] == ("False", "NodesShared")
    assert "twin" in ready(shared)[2]
    other = desired_objects.pool("twin", nodeLabels={"windlass.dev/pool": "a100"}, resourceName="amd.com/gpu")
    assert ready(pool_status(alone, desired_objects.node("a"), pools={"a100": alone, "twin": other}))[1] == "Reconciled"


@pytest.mark.parametrize(
    ("labels", "spec", "memory"),
    [
        (["81920", "40960"], {}, "40960Mi"),
        (["81920", None], {}, ""),
        (["81920", "many"], {}, ""),
        ([], {}, ""),
        (["81920"], {"gpuMemory": "24Gi"}, "24Gi"),
    ],
)
def test_the_memory_of_a_gpu_is_that_of_the_spec_or_of_all_nodes(
    labels: list[str | None], spec: Json, memory: str
) -> None:
    nodes = []
    for number, label in enumerate(labels):
        node = desired_objects.node(f"n{number}")
        node["metadata"]["labels"] |= {gpu_pool.GPU_MEMORY_LABEL: label} if label else {}
        nodes.append(Node.model_validate(node))
    pool = desired_objects.pool("a100", **spec)
    observation = gpu_pool.PoolObservation({"a100": pool}, {}, nodes, {})
    assert gpu_pool.status(pool, observation, (), NOW).gpu_memory == memory


def test_nominal_above_capacity_is_reported() -> None:
    greedy = desired_objects.project({"pool": "a100", "nominal": 9})
    found = pool_status(POOLS["a100"], desired_objects.node("a"), projects={"search": greedy})
    [over] = [one for one in found.conditions if one.type == gpu_pool.OVERCOMMITTED]
    assert (over.status, over.message[:34]) == ("True", "nominal quotas sum to 9 of 8 usable GPUs:"[:34])


def test_pool_in_use_names_the_projects() -> None:
    quotas = [("search", "a100"), ("ranking", "a100"), ("other", "h100")]
    assert gpu_pool.quota_users("a100", quotas) == [
        "projects have quotas of this pool: ranking, search; remove these quotas first"
    ]
    assert gpu_pool.quota_users("b200", quotas) == []


def test_nodes_that_take_no_pods_are_named_and_their_gpus_do_not_count() -> None:
    gpu, infra = (
        {"key": key, "value": value, "effect": "NoSchedule"} for key, value in (("gpu", "yes"), ("infra", ""))
    )
    soft = {"key": "busy", "effect": "PreferNoSchedule"}
    tolerant = desired_objects.pool(taints=[{"key": "gpu", "value": "yes"}])
    nodes = [
        desired_objects.node("good", taints=[gpu, soft]),
        desired_objects.node("tainted", taints=[gpu, infra]),
        desired_objects.node("other", taints=[gpu | {"value": "no"}]),
        desired_objects.node("evicting", taints=[gpu | {"effect": "NoExecute"}]),
        desired_objects.node("cordoned", taints=[gpu], cordoned=True),
        desired_objects.node("down", taints=[gpu], ready=False),
    ]
    found = pool_status(tolerant, *nodes, pools={"a100": tolerant})
    assert (found.nodes, found.ready_nodes, found.capacity, found.allocatable) == (6, 1, 48, 8)
    assert ready(found)[:2] == ("True", "Reconciled")
    [unusable] = [one for one in found.conditions if one.type == gpu_pool.NODES_UNUSABLE]
    assert (unusable.status, unusable.reason) == ("True", "NodesTakeNoPods")
    assert unusable.message == (
        "8 of 48 GPUs can be used: node cordoned is cordoned; node down is not ready; "
        "node evicting has the taint gpu=yes:NoExecute, which the pool does not tolerate; "
        "node other has the taint gpu=no:NoSchedule, which the pool does not tolerate; "
        "node tainted has the taint infra:NoSchedule, which the pool does not tolerate; "
        "add the taint to spec.taints, or remove it from the node"
    )
    healthy = pool_status(tolerant, nodes[0], pools={"a100": tolerant})
    assert {one.type: one.status for one in healthy.conditions}[gpu_pool.NODES_UNUSABLE] == "False"
    greedy = desired_objects.project({"pool": "a100", "nominal": 9})
    over = pool_status(tolerant, *nodes, pools={"a100": tolerant}, projects={"search": greedy})
    assert {one.type: one.status for one in over.conditions}[gpu_pool.OVERCOMMITTED] == "True"


def test_only_changes_become_events_and_time_changes_only_with_the_status() -> None:
    def ready_condition(verdict: ConditionResult, before: Any, now: datetime) -> Any:
        status, reason, message = verdict.status, verdict.reason, verdict.message
        return condition(before, READY, status=status, reason=reason, message=message, generation=1, now=now)

    good = ConditionResult(status=True, reason="Reconciled", message="all stands")
    bad = ConditionResult(status=False, reason="NotOwned", message="in the way")
    first = ready_condition(good, [], NOW)
    later = ready_condition(good, [first], NOW + timedelta(hours=1))
    broken = ready_condition(bad, [later], NOW + timedelta(hours=2))
    assert [(one.type, one.reason) for one in events([], [first])] == [("Normal", "Reconciled")]
    assert events([first], [later]) == []
    assert later.last_transition_time == NOW
    assert [(one.type, one.message) for one in events([later], [broken])] == [("Warning", "in the way")]
    assert broken.last_transition_time == NOW + timedelta(hours=2)
