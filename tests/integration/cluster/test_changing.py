"""Quotas are changed beside kubectl, Helm and GitOps, on a real API server."""

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.bed.cluster_api import apply, kubectl
from tests.bed.layout import Bed
from tests.integration.cluster.installed import admin_of, control_of
from tests.integration.cluster.waiting import eventually

from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, UnavailableError, WindlassError
from windlass.domain.mirror import QuotaChange, Share, id_of
from windlass.kube import errors as kube
from windlass.kube.changing import AppliedProjects, share_of
from windlass.kube.client import Client
from windlass.kube.kinds import PROJECT
from windlass.kube.objects import Ref
from windlass.kube.ownership import API_MANAGER, applied_by, managed_by

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
Json = dict[str, Any]
REF = Ref(PROJECT, "changed")


def manifest(*quotas: Json, **spec: Any) -> Json:
    whole = {"cohort": "lab"} | spec | ({"quotas": list(quotas)} if quotas else {})
    return {"apiVersion": PROJECT.api_version, "kind": PROJECT.kind, "metadata": {"name": "changed"}, "spec": whole}


def quota(pool: str, nominal: int, **limits: int) -> Json:
    return {"pool": pool, "nominal": nominal, **limits}


@pytest.fixture(scope="module")
def resources(installed: Bed) -> AppliedProjects:
    return AppliedProjects(control_of(installed))


@pytest.fixture
def admin(installed: Bed) -> Iterator[Client]:
    client = admin_of(installed)
    yield client
    client.delete(REF)
    eventually(lambda: client.find(REF) is None, "the project is gone")


def change(admin: Client, pool: str, nominal: int | None, **limits: int) -> QuotaChange:
    """A wish for the project as it is now; ``nominal`` None takes the quota away."""
    return QuotaChange(
        id="qc_1",
        project=id_of("prj", admin.get(REF)["metadata"]["uid"]),
        name="changed",
        pool=pool,
        share=None if nominal is None else Share(nominal=nominal, **limits),
        created_by="ada",
        created_at=datetime.now(UTC),
    )


def quotas(admin: Client) -> list[Json]:
    return sorted(admin.get(REF)["spec"].get("quotas", ()), key=lambda one: str(one["pool"]))


def by_kubectl(bed: Bed, wish: Json, *options: str) -> None:
    kubectl(bed, "apply", *options, "-f", "-", given=json.dumps(wish))


def edit(bed: Bed, expression: str) -> None:
    """Do as a person with an editor does."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBE_EDITOR", f"sed -i -E '{expression}'")
        kubectl(bed, "edit", "project", "changed")


def test_a_quota_is_set_changed_and_taken_away_and_all_else_stays(
    installed: Bed, admin: Client, resources: AppliedProjects
) -> None:
    members = [{"kind": "User", "name": "ada", "role": "owner"}]
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


def test_the_last_quota_can_be_taken_away_from_a_project_that_has_nothing_else(
    admin: Client, resources: AppliedProjects
) -> None:
    wish = manifest() | {"spec": {}}
    admin.apply(wish, manager=API_MANAGER)
    resources.apply(change(admin, "a100", 4))
    resources.apply(change(admin, "a100", None))
    assert quotas(admin) == []


def test_what_else_we_have_applied_stays(admin: Client, resources: AppliedProjects) -> None:
    members = [{"kind": "User", "name": "ada", "role": "owner"}]
    wish = manifest(quota("a100", 1), members=members, jobs={"priorityCeiling": 10})
    wish["metadata"]["labels"] = {"team": "vision"}
    admin.apply(wish, manager=API_MANAGER)
    ours = applied_by(API_MANAGER, admin.get(REF))
    assert ours == {"metadata": {"labels": {"team": "vision"}}, "spec": wish["spec"]}
    resources.apply(change(admin, "a100", 2))
    live = admin.get(REF)
    assert applied_by(API_MANAGER, live) == ours | {"spec": ours["spec"] | {"quotas": [quota("a100", 2)]}}
    assert live["metadata"]["labels"] == {"team": "vision"}
    assert live["spec"]["members"] == members


def test_a_check_leaves_nothing(installed: Bed, admin: Client, resources: AppliedProjects) -> None:
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
def test_what_others_apply_is_theirs(
    installed: Bed, admin: Client, resources: AppliedProjects, options: tuple[str, ...], manager: str
) -> None:
    by_kubectl(installed, manifest(quota("a100", 4)), *options)
    before = admin.get(REF)
    assert managed_by(before, "a100") == manager
    for nominal, limits in ((5, {}), (None, {})):
        with pytest.raises(ConflictError, match=rf"project changed in pool a100 is managed by {manager}$") as raised:
            resources.apply(change(admin, "a100", nominal, **limits))
        assert raised.value.facts == {"managers": [manager]}
        assert "Git repository" in raised.value.hint
    resources.apply(change(admin, "a100", 4))
    assert admin.get(REF) == before, "what it is already needs no change, and nobody else's field becomes ours, too"


def test_an_edit_takes_a_quota_over(installed: Bed, admin: Client, resources: AppliedProjects) -> None:
    admin.create(manifest(), manager="them")
    resources.apply(change(admin, "a100", 4))
    edit(installed, "s/nominal: 4/nominal: 6/")
    assert quotas(admin) == [quota("a100", 6)]
    assert managed_by(admin.get(REF), "a100") == "kubectl-edit"
    for nominal in (5, None):
        with pytest.raises(ConflictError, match="managed by kubectl-edit"):
            resources.apply(change(admin, "a100", nominal))
    assert quotas(admin) == [quota("a100", 6)]


def test_a_limit_that_others_added_does_not_go_by_our_leaving_it_out(
    installed: Bed, admin: Client, resources: AppliedProjects
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


def test_client_side_apply_replaces_the_whole_list_and_what_it_took_is_not_made_again(
    installed: Bed, admin: Client, resources: AppliedProjects
) -> None:
    """kubectl merges lists of custom resources on its own side by replacing them; a manifest without one leaves it."""
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


def test_two_who_apply_at_once_undo_nothing(installed: Bed, admin: Client) -> None:
    admin.create(manifest(), manager="them")
    wishes = {pool: change(admin, pool, 2) for pool in ("a", "b", "c")}
    failed: list[WindlassError] = []

    def work(pool: str) -> None:
        resources = AppliedProjects(control_of(installed))
        try:
            for nominal in (1, 2, 3, 4):
                share = Share(nominal=nominal)
                resources.apply(wishes[pool].model_copy(update={"share": share}))
        except WindlassError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(pool,)) for pool in wishes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert quotas(admin) == [quota(pool, 4) for pool in wishes]
    assert applied_by(API_MANAGER, admin.get(REF))["spec"]["quotas"] == [quota(pool, 4) for pool in wishes]


def test_a_rule_says_what_is_wrong_and_where(admin: Client, resources: AppliedProjects) -> None:
    admin.create(manifest(quota("h100", 1)), manager="them")
    with pytest.raises(InvalidError, match="a project cannot lend more than its own GPUs") as raised:
        resources.check(change(admin, "a100", 1, lending_limit=2))
    assert [one.pointer for one in raised.value.fields] == ["/lending_limit"]
    assert raised.value.fields[0].problem.startswith("lendingLimit is above nominal")
    with pytest.raises(InvalidError) as raised:
        resources.check(change(admin, "a100", 2_000_000))
    assert [one.pointer for one in raised.value.fields] == ["/nominal"]
    admin.patch(REF, {"spec": {"cohort": None}}, manager="them")
    with pytest.raises(InvalidError, match="need a cohort") as raised:
        resources.check(change(admin, "a100", 2, borrowing_limit=1))
    assert [one.pointer for one in raised.value.fields] == ["/borrowing_limit"]
    assert quotas(admin) == [quota("h100", 1)]


@pytest.fixture
def policy(installed: Bed) -> Iterator[None]:
    """An installation's own rule."""
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
def test_a_policy_refuses_in_its_own_words(admin: Client, resources: AppliedProjects) -> None:
    admin.create(manifest(), manager="them")

    told: list[str] = []

    def refused() -> bool:
        try:
            resources.check(change(admin, "a100", 9))
        except InvalidError as error:
            told.append(error.message)
        return bool(told)

    eventually(refused, "the policy is in force")
    assert "no project has more than 8" in told[0]
    resources.check(change(admin, "a100", 8))


def test_a_project_that_is_gone_or_made_again_is_not_found(admin: Client, resources: AppliedProjects) -> None:
    admin.create(manifest(), manager="them")
    old = change(admin, "a100", 1)
    admin.delete(REF)
    with pytest.raises(NotFoundError):
        resources.apply(old)
    admin.create(manifest(), manager="them")
    with pytest.raises(NotFoundError):
        resources.apply(old)
    assert share_of(admin.get(REF), "a100") is None


def test_who_may_not_or_cannot_reach_the_server_may_try_later(installed: Bed, admin: Client) -> None:
    admin.create(manifest(), manager="them")
    wish = change(admin, "a100", 1)
    with pytest.raises(UnavailableError, match='User "nobody" cannot'):
        AppliedProjects(admin_of(installed, impersonate="nobody")).check(wish)


POOLS = ("a", "b", "c", "d")


def others_write(admin: Client, chance: random.Random) -> None:
    """A manifest is applied, with or without force, or somebody edits the whole object."""
    some = [quota(pool, chance.randint(2, 5)) for pool in POOLS if chance.random() < 0.4]
    for one in some:
        if chance.random() < 0.3:
            one["borrowingLimit"] = chance.randint(0, 2)
    if chance.random() < 0.6:
        # to leave out a quota of which another manager has only a limit is invalid: its nominal would be missing
        with contextlib.suppress(kube.ConflictError, kube.InvalidError):
            admin.apply(manifest(*some), manager="git", force=chance.random() < 0.3)
        return
    live = admin.get(REF)
    kept = [one for one in live["spec"].get("quotas", ()) if one["pool"] not in {each["pool"] for each in some}]
    live["spec"]["quotas"] = [*(one for one in kept if chance.random() < 0.8), *some]
    admin.replace(live, manager="kubectl-edit")


def conflict_of(resources: AppliedProjects, wish: QuotaChange) -> ConflictError | None:
    try:
        resources.apply(wish)
    except ConflictError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(4))
def test_whatever_others_write_we_change_one_quota_or_nothing(
    admin: Client, resources: AppliedProjects, seed: int
) -> None:
    chance = random.Random(seed)
    admin.create(manifest(), manager="them")
    outcomes = Counter[str]()
    for _ in range(60):
        if chance.random() < 0.4:
            others_write(admin, chance)
            continue
        pool, nominal = chance.choice(POOLS), chance.choice([None, 2, 3, 4, 5])
        wish = change(admin, pool, nominal, **({"borrowing_limit": 1} if nominal and chance.random() < 0.3 else {}))
        before = admin.get(REF)
        conflict = conflict_of(resources, wish)
        after = admin.get(REF)
        if conflict is not None:
            outcomes["conflict"] += 1
            assert conflict.facts["managers"] == managed_by(before, pool).split(", "), "it names who owns the quota"
            assert after == before
            continue
        outcomes["changed" if after != before else "same"] += 1
        assert share_of(after, pool) == wish.share
        for other in set(POOLS) - {pool}:
            assert share_of(after, other) == share_of(before, other)
            assert managed_by(after, other) == managed_by(before, other)
    assert min(outcomes["conflict"], outcomes["changed"]) > 3, outcomes
