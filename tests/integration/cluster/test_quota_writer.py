"""Quota changes next to kubectl, Helm and GitOps, on a real API server."""

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.cluster.installed import admin_client, control_plane_client
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import apply, kubectl
from tests.testcluster.layout import LocalCluster

from windlass.domain.cluster_sync import QuotaChange, QuotaSpec, id_of
from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, UnavailableError, WindlassError
from windlass.kube import errors as kube
from windlass.kube.client import KubeClient
from windlass.kube.kinds import PROJECT
from windlass.kube.objects import Ref
from windlass.kube.ownership import API_MANAGER, applied_by, managed_by
from windlass.kube.quota_writer import ProjectQuotaWriter, quota_spec_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
REF = Ref(PROJECT, "changed")


def manifest(*quotas: Json, **spec: Any) -> Json:
    full = {"cohort": "lab"} | spec | ({"quotas": list(quotas)} if quotas else {})
    return {
        "apiVersion": PROJECT.api_version,
        "kind": PROJECT.kind,
        "metadata": {"name": "changed"},
        "spec": full,
    }


def quota(pool: str, nominal: int, **limits: int) -> Json:
    return {"pool": pool, "nominal": nominal, **limits}


@pytest.fixture(scope="module")
def resources(installed: LocalCluster) -> ProjectQuotaWriter:
    return ProjectQuotaWriter(control_plane_client(installed))


@pytest.fixture
def admin(installed: LocalCluster) -> Iterator[KubeClient]:
    client = admin_client(installed)
    yield client
    client.delete(REF)
    eventually(lambda: client.find(REF) is None, "the project is gone")


def change(admin: KubeClient, pool: str, nominal: int | None, **limits: int) -> QuotaChange:
    """A change of the current project; ``nominal`` None removes the quota."""
    return QuotaChange(
        id="qc_1",
        project=id_of("prj", admin.get(REF)["metadata"]["uid"]),
        name="changed",
        pool=pool,
        spec=None if nominal is None else QuotaSpec(nominal=nominal, **limits),
        created_by="ada",
        created_at=datetime.now(UTC),
    )


def quotas(admin: KubeClient) -> list[Json]:
    return sorted(admin.get(REF)["spec"].get("quotas", ()), key=lambda one: str(one["pool"]))


def by_kubectl(cluster: LocalCluster, desired: Json, *options: str) -> None:
    kubectl(cluster, "apply", *options, "-f", "-", given=json.dumps(desired))


def edit(cluster: LocalCluster, expression: str) -> None:
    """Run kubectl edit."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBE_EDITOR", f"sed -i -E '{expression}'")
        kubectl(cluster, "edit", "project", "changed")


def test_setting_changing_and_removing_a_quota_keeps_all_other_fields(
    installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter
) -> None:
    members = [{"kind": "User", "name": "ada", "role": "admin"}]
    by_kubectl(installed, manifest(quota("h100", 1), members=members), "--server-side")
    before = admin.get(REF)["spec"]
    resources.apply(change(admin, "a100", 4, borrowing_limit=2))
    assert quotas(admin) == [quota("a100", 4, borrowingLimit=2), quota("h100", 1)]
    live = admin.get(REF)
    assert (managed_by(live, "a100"), managed_by(live, "h100")) == ("", "kubectl")
    resources.apply(change(admin, "tpu", 1))
    resources.apply(change(admin, "a100", 6, lending_limit=3))
    assert quotas(admin) == [quota("a100", 6, lendingLimit=3), quota("h100", 1), quota("tpu", 1)]
    by_kubectl(installed, manifest(quota("h100", 2), members=members), "--server-side")
    assert quotas(admin) == [quota("a100", 6, lendingLimit=3), quota("h100", 2), quota("tpu", 1)]
    version = admin.get(REF)["metadata"]["resourceVersion"]
    resources.apply(change(admin, "a100", 6, lending_limit=3))
    assert admin.get(REF)["metadata"]["resourceVersion"] == version, "making it again changes nothing"
    resources.apply(change(admin, "a100", None))
    resources.apply(change(admin, "a100", None))
    resources.apply(change(admin, "tpu", None))
    assert admin.get(REF)["spec"] == before | {"quotas": [quota("h100", 2)]}


def test_the_last_quota_of_a_project_can_be_removed(admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    desired = manifest() | {"spec": {}}
    admin.apply(desired, manager=API_MANAGER)
    resources.apply(change(admin, "a100", 4))
    resources.apply(change(admin, "a100", None))
    assert quotas(admin) == []


def test_our_other_applied_fields_are_kept(admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    members = [{"kind": "User", "name": "ada", "role": "admin"}]
    desired = manifest(quota("a100", 1), members=members, jobs={"priorityCeiling": 10})
    desired["metadata"]["labels"] = {"team": "vision"}
    admin.apply(desired, manager=API_MANAGER)
    ours = applied_by(API_MANAGER, admin.get(REF))
    assert ours == {"metadata": {"labels": {"team": "vision"}}, "spec": desired["spec"]}
    resources.apply(change(admin, "a100", 2))
    live = admin.get(REF)
    assert applied_by(API_MANAGER, live) == ours | {"spec": ours["spec"] | {"quotas": [quota("a100", 2)]}}
    assert live["metadata"]["labels"] == {"team": "vision"}
    assert live["spec"]["members"] == members


def test_a_dry_run_changes_nothing(installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    by_kubectl(installed, manifest(quota("h100", 1)), "--server-side")
    before = admin.get(REF)
    resources.check(change(admin, "a100", 4))
    with pytest.raises(ConflictError):
        resources.check(change(admin, "h100", 4))
    with pytest.raises(ConflictError):
        resources.check(change(admin, "h100", None))
    assert admin.get(REF) == before


@pytest.mark.parametrize(
    ("options", "manager"),
    [
        ((), "kubectl-client-side-apply"),
        (("--server-side",), "kubectl"),
        (("--server-side", "--field-manager=argocd-controller"), "argocd-controller"),
    ],
)
def test_fields_applied_by_others_stay_theirs(
    installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter, options: tuple[str, ...], manager: str
) -> None:
    by_kubectl(installed, manifest(quota("a100", 4)), *options)
    before = admin.get(REF)
    assert managed_by(before, "a100") == manager
    for nominal, limits in ((5, {}), (None, {})):
        with pytest.raises(ConflictError, match=rf"project changed in pool a100 is managed by {manager}$") as raised:
            resources.apply(change(admin, "a100", nominal, **limits))
        assert raised.value.context == {"managers": [manager]}
        assert "Git repository" in raised.value.hint
    resources.apply(change(admin, "a100", 4))
    assert admin.get(REF) == before, "what it is already needs no change, and nobody else's field becomes ours, too"


def test_a_kubectl_edit_takes_ownership_of_a_quota(
    installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter
) -> None:
    admin.create(manifest(), manager="them")
    resources.apply(change(admin, "a100", 4))
    edit(installed, "s/nominal: 4/nominal: 6/")
    assert quotas(admin) == [quota("a100", 6)]
    assert managed_by(admin.get(REF), "a100") == "kubectl-edit"
    for nominal in (5, None):
        with pytest.raises(ConflictError, match="managed by kubectl-edit"):
            resources.apply(change(admin, "a100", nominal))
    assert quotas(admin) == [quota("a100", 6)]


def test_a_limit_that_others_added_is_kept_when_we_omit_it(
    installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter
) -> None:
    admin.create(manifest(), manager="them")
    resources.apply(change(admin, "a100", 4))
    edit(installed, r"s/^( *)-? *nominal: 4/&\n    borrowingLimit: 2/")
    assert quotas(admin) == [quota("a100", 4, borrowingLimit=2)]
    for nominal in (5, None):
        with pytest.raises(ConflictError, match="managed by kubectl-edit"):
            resources.apply(change(admin, "a100", nominal))
    resources.apply(change(admin, "a100", 5, borrowing_limit=2))
    assert quotas(admin) == [quota("a100", 5, borrowingLimit=2)]


def test_client_side_apply_replaces_the_list_and_removed_quotas_are_not_recreated(
    installed: LocalCluster, admin: KubeClient, resources: ProjectQuotaWriter
) -> None:
    """Client-side apply replaces lists of custom resources; a manifest without the list leaves it."""
    by_kubectl(installed, manifest())
    resources.apply(change(admin, "a100", 4))
    resources.apply(change(admin, "tpu", 1))
    by_kubectl(installed, manifest(displayName="Changed"))
    assert quotas(admin) == [quota("a100", 4), quota("tpu", 1)]
    by_kubectl(installed, manifest(quota("h100", 1)))
    assert quotas(admin) == [quota("h100", 1)]
    resources.apply(change(admin, "tpu", 2))
    assert quotas(admin) == [quota("h100", 1), quota("tpu", 2)], "a100 was taken away by others and stays away"
    resources.apply(change(admin, "a100", None))
    resources.apply(change(admin, "a100", 3))
    assert quotas(admin) == [quota("a100", 3), quota("h100", 1), quota("tpu", 2)]


def test_concurrent_applies_do_not_revert_each_other(installed: LocalCluster, admin: KubeClient) -> None:
    admin.create(manifest(), manager="them")
    changes = {pool: change(admin, pool, 2) for pool in ("a", "b", "c")}
    failed: list[WindlassError] = []

    def work(pool: str) -> None:
        resources = ProjectQuotaWriter(control_plane_client(installed))
        try:
            for nominal in (1, 2, 3, 4):
                spec = QuotaSpec(nominal=nominal)
                resources.apply(changes[pool].model_copy(update={"spec": spec}))
        except WindlassError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(pool,)) for pool in changes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert quotas(admin) == [quota(pool, 4) for pool in changes]
    assert applied_by(API_MANAGER, admin.get(REF))["spec"]["quotas"] == [quota(pool, 4) for pool in changes]


def test_a_crd_rule_reports_the_field_and_the_problem(admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    admin.create(manifest(quota("h100", 1)), manager="them")
    with pytest.raises(InvalidError, match="a project cannot lend more than its nominal quota") as raised:
        resources.check(change(admin, "a100", 1, lending_limit=2))
    assert [one.pointer for one in raised.value.fields] == ["/lending_limit"]
    assert raised.value.fields[0].problem.startswith("lendingLimit exceeds nominal")
    with pytest.raises(InvalidError) as raised:
        resources.check(change(admin, "a100", 2_000_000))
    assert [one.pointer for one in raised.value.fields] == ["/nominal"]
    admin.patch(REF, {"spec": {"cohort": None}}, manager="them")
    with pytest.raises(InvalidError, match="require a cohort") as raised:
        resources.check(change(admin, "a100", 2, borrowing_limit=1))
    assert [one.pointer for one in raised.value.fields] == ["/borrowing_limit"]
    assert quotas(admin) == [quota("h100", 1)]


@pytest.fixture
def policy(installed: LocalCluster) -> Iterator[None]:
    """A policy of the installation."""
    named = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "test-frugal"}}
    rule = {"apiGroups": ["windlass.dev"], "apiVersions": ["*"], "resources": ["projects"]}
    rules = [rule | {"operations": ["CREATE", "UPDATE"]}]
    sparing = "!has(object.spec.quotas) || object.spec.quotas.all(q, q.nominal <= 8)"
    frugal = {"expression": sparing, "message": "no project has more than 8"}
    made = [
        named
        | {
            "kind": "ValidatingAdmissionPolicy",
            "spec": {"matchConstraints": {"resourceRules": rules}, "validations": [frugal]},
        },
        named
        | {
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": "test-frugal", "validationActions": ["Deny"]},
        },
    ]
    apply(installed, made)
    yield
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        kubectl(installed, "delete", kind, "test-frugal")


@pytest.mark.usefixtures("policy")
def test_a_policys_message_is_passed_on(admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    admin.create(manifest(), manager="them")

    messages: list[str] = []

    def refused() -> bool:
        try:
            resources.check(change(admin, "a100", 9))
        except InvalidError as error:
            messages.append(error.message)
        return bool(messages)

    eventually(refused, "the policy is in force")
    assert "no project has more than 8" in messages[0]
    resources.check(change(admin, "a100", 8))


def test_a_deleted_or_recreated_project_is_not_found(admin: KubeClient, resources: ProjectQuotaWriter) -> None:
    admin.create(manifest(), manager="them")
    old = change(admin, "a100", 1)
    admin.delete(REF)
    with pytest.raises(NotFoundError):
        resources.apply(old)
    admin.create(manifest(), manager="them")
    with pytest.raises(NotFoundError):
        resources.apply(old)
    assert quota_spec_of(admin.get(REF), "a100") is None


def test_forbidden_and_unreachable_servers_are_retryable(installed: LocalCluster, admin: KubeClient) -> None:
    admin.create(manifest(), manager="them")
    desired = change(admin, "a100", 1)
    with pytest.raises(UnavailableError, match='User "nobody" cannot'):
        ProjectQuotaWriter(admin_client(installed, impersonate="nobody")).check(desired)


POOLS = ("a", "b", "c", "d")


def others_write(admin: KubeClient, rng: random.Random) -> None:
    """A manifest is applied, with or without force, or the whole object is edited."""
    chosen = [quota(pool, rng.randint(2, 5)) for pool in POOLS if rng.random() < 0.4]
    for one in chosen:
        if rng.random() < 0.3:
            one["borrowingLimit"] = rng.randint(0, 2)
    if rng.random() < 0.6:
        # to leave out a quota of which another manager has only a limit is invalid: its nominal would be missing
        with contextlib.suppress(kube.KubeConflictError, kube.KubeInvalidError):
            admin.apply(manifest(*chosen), manager="git", force=rng.random() < 0.3)
        return
    live = admin.get(REF)
    kept = [one for one in live["spec"].get("quotas", ()) if one["pool"] not in {each["pool"] for each in chosen}]
    live["spec"]["quotas"] = [*(one for one in kept if rng.random() < 0.8), *chosen]
    admin.replace(live, manager="kubectl-edit")


def conflict_of(resources: ProjectQuotaWriter, desired: QuotaChange) -> ConflictError | None:
    try:
        resources.apply(desired)
    except ConflictError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(4))
def test_concurrent_writers_we_change_one_quota_or_nothing(
    admin: KubeClient, resources: ProjectQuotaWriter, seed: int
) -> None:
    rng = random.Random(seed)
    admin.create(manifest(), manager="them")
    outcomes = Counter[str]()
    for _ in range(60):
        if rng.random() < 0.4:
            others_write(admin, rng)
            continue
        pool, nominal = rng.choice(POOLS), rng.choice([None, 2, 3, 4, 5])
        desired = change(admin, pool, nominal, **({"borrowing_limit": 1} if nominal and rng.random() < 0.3 else {}))
        before = admin.get(REF)
        conflict = conflict_of(resources, desired)
        after = admin.get(REF)
        if conflict is not None:
            outcomes["conflict"] += 1
            assert conflict.context["managers"] == managed_by(before, pool).split(", "), "it names who owns the quota"
            assert after == before
            continue
        outcomes["changed" if after != before else "same"] += 1
        assert quota_spec_of(after, pool) == desired.spec
        for other in set(POOLS) - {pool}:
            assert quota_spec_of(after, other) == quota_spec_of(before, other)
            assert managed_by(after, other) == managed_by(before, other)
    assert min(outcomes["conflict"], outcomes["changed"]) > 3, outcomes
