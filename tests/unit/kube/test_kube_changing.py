"""What is sent to change a quota, and what becomes of refusals. A real API server: tests/integration/cluster."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import Configuration

from windlass.domain import errors as domain
from windlass.domain.mirror import QuotaChange, Share, id_of
from windlass.kube.changing import AppliedProjects, share_of, wished
from windlass.kube.client import Client
from windlass.kube.errors import (
    Cause,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnknownKindError,
)
from windlass.kube.objects import Object, Ref

Json = dict[str, Any]
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def live(*quotas: Json, ours: tuple[str, ...] = (), theirs: tuple[str, ...] = ()) -> Json:
    """A project, and whose quotas are whose."""

    def entry(manager: str, operation: str, pools: tuple[str, ...]) -> Json:
        keys: Json = {f'k:{{"pool":"{pool}"}}': {".": {}, "f:pool": {}, "f:nominal": {}} for pool in pools}
        return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:quotas": keys}}}

    owners = [entry("windlass-api", "Apply", ours), entry("kubectl-edit", "Update", theirs)]
    metadata = {"name": "search", "uid": UID, "resourceVersion": "7", "managedFields": owners}
    return {"metadata": metadata, "spec": {"quotas": list(quotas)}}


def quota(pool: str, nominal: int, **limits: int) -> Json:
    return {"pool": pool, "nominal": nominal, **limits}


class Server(Client):
    """Answers each apply with the next prepared error, or as if all were well."""

    def __init__(self, project: Json | None, *refusals: ClusterError) -> None:
        super().__init__(Configuration())
        self.project, self.refusals = project, list(refusals)
        self.sent: list[tuple[bool, Object]] = []
        self.reads = 0

    def get(self, ref: Ref) -> Object:
        self.reads += 1
        if self.project is None:
            raise NotFoundError(f"get {ref}: gone")
        return copy.deepcopy(self.project)

    def apply(
        self, wish: Object, *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> Object:
        assert (manager, force, subresource) == ("windlass-api", False, "")
        self.sent.append((dry_run, wish))
        if self.refusals:
            raise self.refusals.pop(0)
        return {"spec": wish["spec"]}


FOUR = Share(nominal=4)


def change(share: Share | None = FOUR, pool: str = "a100", uid: str = UID) -> QuotaChange:
    return QuotaChange(
        id="qc_1",
        project=id_of("prj", uid),
        name="search",
        pool=pool,
        share=share,
        created_by="ada",
        created_at=datetime.now(UTC),
    )


def resources(server: Server) -> AppliedProjects:
    return AppliedProjects(server, sleep=lambda _: None)


def test_what_is_sent_is_all_that_we_own_with_the_one_quota_changed_into_the_version_that_was_read() -> None:
    project = live(quota("a100", 1), quota("h100", 2), quota("tpu", 3), ours=("a100", "tpu"), theirs=("h100",))
    wish = wished(project, "a100", Share(nominal=4, lending_limit=0))
    assert wish["metadata"] == {"name": "search", "uid": UID, "resourceVersion": "7"}
    assert wish["spec"] == {"quotas": [quota("tpu", 3), quota("a100", 4, lendingLimit=0)]}
    assert wished(project, "a100", None)["spec"] == {"quotas": [quota("tpu", 3)]}
    assert wished(live(quota("a100", 1), ours=("a100",)), "a100", None)["spec"] == {}


def test_a_share_is_read_as_it_stands() -> None:
    project = live(quota("a100", 4, borrowingLimit=0))
    assert share_of(project, "a100") == Share(nominal=4, borrowing_limit=0)
    assert share_of(project, "h100") is None


def test_it_is_tried_before_it_is_kept_and_a_check_only_tries() -> None:
    server = Server(live())
    resources(server).apply(change())
    assert [dry for dry, _ in server.sent] == [True, False]
    server.sent.clear()
    resources(server).check(change())
    assert [dry for dry, _ in server.sent] == [True]


def test_what_is_so_already_is_not_sent() -> None:
    server = Server(live(quota("a100", 4)))
    resources(server).apply(change())
    resources(server).apply(change(None, "h100"))
    assert server.sent == []


def test_who_lost_a_race_reads_again_and_not_for_ever() -> None:
    stale = ConflictError("the object has been modified", status=409)
    server = Server(live(), stale, stale)
    resources(server).apply(change())
    assert server.reads == 3
    server = Server(live(), *[stale] * 50)
    with pytest.raises(domain.UnavailableError):
        resources(server).apply(change())
    assert server.reads < 10


def test_a_project_made_again_under_the_name_is_another_one() -> None:
    server = Server(live())
    with pytest.raises(domain.NotFoundError):
        resources(server).apply(change(uid="11111111-d9cb-469f-a165-70867728950e"))
    with pytest.raises(domain.NotFoundError):
        resources(Server(None)).apply(change())
    assert server.sent == []


def test_a_conflict_names_who_owns_the_fields() -> None:
    told = '.spec.quotas[pool="a100"].nominal: conflict with "helm" using windlass.dev/v1alpha1; '
    told += '.spec.quotas[pool="a100"].lendingLimit: conflict with "argocd-controller" using windlass.dev/v1alpha1'
    with pytest.raises(domain.ConflictError, match=r"is managed by argocd-controller, helm$") as raised:
        resources(Server(live(), ConflictError("conflict", managers=told))).apply(change())
    assert raised.value.facts == {"managers": ["argocd-controller", "helm"]}
    assert "where it is managed" in raised.value.hint


def test_what_others_own_is_not_taken_away() -> None:
    server = Server(live(quota("a100", 1), ours=("a100",), theirs=("a100",)))
    with pytest.raises(domain.ConflictError, match="kubectl-edit"):
        resources(server).apply(change(None))
    assert server.sent == []


@pytest.mark.parametrize(
    ("cause", "pointer", "problem"),
    [
        (Cause("spec.quotas[1].nominal", "Invalid value: 9: too many"), "/nominal", "too many"),
        (
            Cause("spec.quotas[1]", 'Invalid value: "object": lendingLimit is above'),
            "/lending_limit",
            "lendingLimit is",
        ),
        (Cause("spec.quotas", "Invalid value: lendingLimit is above: no"), "/lending_limit", "lendingLimit is above"),
        (Cause("spec.quotas[0].nominal", "Required value"), "", "Required value"),
        (Cause("", "no project has more than 8"), "", "no project"),
    ],
)
def test_a_refusal_points_at_the_field_of_the_request(cause: Cause, pointer: str, problem: str) -> None:
    server = Server(live(quota("h100", 1)), InvalidError("apply Project: refused", causes=[cause]))
    with pytest.raises(domain.InvalidError) as raised:
        resources(server).check(change())
    [found] = raised.value.fields
    assert found.pointer == pointer
    assert found.problem.startswith(problem)
    assert found.problem in raised.value.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidError("no causes are told"), domain.InvalidError),
        (ForbiddenError('admission webhook "x" denied the request: no'), domain.InvalidError),
        (ForbiddenError('projects "search" is forbidden: User "x" cannot patch'), domain.UnavailableError),
        (UnavailableError("nobody answers"), domain.UnavailableError),
        (UnknownKindError("Project: not served"), domain.UnavailableError),
        (NotFoundError("gone meanwhile"), domain.NotFoundError),
        (ClusterError("a teapot"), domain.UnavailableError),
    ],
)
def test_each_error_of_the_cluster_is_one_of_ours(error: ClusterError, expected: type[domain.WindlassError]) -> None:
    with pytest.raises(domain.WindlassError) as raised:
        resources(Server(live(), error)).check(change())
    assert type(raised.value) is expected
    assert raised.value.retryable == (expected is domain.UnavailableError)
