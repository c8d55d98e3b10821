"""Manifests of quota changes, and the mapping of errors. A real API server: tests/integration/cluster."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client import Configuration

from windlass.domain import errors as domain
from windlass.domain.cluster_sync import QuotaChange, QuotaSpec, id_of
from windlass.kube.client import KubeClient
from windlass.kube.errors import (
    Cause,
    KubeApiError,
    KubeConflictError,
    KubeForbiddenError,
    KubeInvalidError,
    KubeNotFoundError,
    KubeUnavailableError,
    NoKindMatchError,
)
from windlass.kube.objects import Object, Ref
from windlass.kube.quota_writer import ProjectQuotaWriter, desired_project, quota_spec_of

Json = dict[str, Any]
UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def live(*quotas: Json, ours: tuple[str, ...] = (), theirs: tuple[str, ...] = ()) -> Json:
    """A project with the owners of its quotas."""

    def entry(manager: str, operation: str, pools: tuple[str, ...]) -> Json:
        keys: Json = {f'k:{{"pool":"{pool}"}}': {".": {}, "f:pool": {}, "f:nominal": {}} for pool in pools}
        return {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {"f:quotas": keys}}}

    owners = [entry("windlass-api", "Apply", ours), entry("kubectl-edit", "Update", theirs)]
    metadata = {"name": "search", "uid": UID, "resourceVersion": "7", "managedFields": owners}
    return {"metadata": metadata, "spec": {"quotas": list(quotas)}}


def quota(pool: str, nominal: int, **limits: int) -> Json:
    return {"pool": pool, "nominal": nominal, **limits}


class FakeServer(KubeClient):
    """Answers each apply with the next prepared error, or succeeds."""

    def __init__(self, project: Json | None, *refusals: KubeApiError) -> None:
        super().__init__(Configuration())
        self.project, self.refusals = project, list(refusals)
        self.sent: list[tuple[bool, Object]] = []
        self.reads = 0

    def get(self, ref: Ref) -> Object:
        self.reads += 1
        if self.project is None:
            raise KubeNotFoundError(f"get {ref}: gone")
        return copy.deepcopy(self.project)

    def apply(
        self, manifest: Object, *, manager: str, force: bool = False, dry_run: bool = False, subresource: str = ""
    ) -> Object:
        assert (manager, force, subresource) == ("windlass-api", False, "")
        self.sent.append((dry_run, manifest))
        if self.refusals:
            raise self.refusals.pop(0)
        return {"spec": manifest["spec"]}


FOUR = QuotaSpec(nominal=4)


def change(spec: QuotaSpec | None = FOUR, pool: str = "a100", uid: str = UID) -> QuotaChange:
    return QuotaChange(
        id="qc_1",
        project=id_of("prj", uid),
        name="search",
        pool=pool,
        spec=spec,
        created_by="ada",
        created_at=datetime.now(UTC),
    )


def resources(server: FakeServer) -> ProjectQuotaWriter:
    return ProjectQuotaWriter(server, sleep=lambda _: None)


def test_manifest_has_all_owned_fields_one_changed_quota_and_the_version() -> None:
    project = live(quota("a100", 1), quota("h100", 2), quota("tpu", 3), ours=("a100", "tpu"), theirs=("h100",))
    manifest = desired_project(project, "a100", QuotaSpec(nominal=4, lending_limit=0))
    assert manifest["metadata"] == {"name": "search", "uid": UID, "resourceVersion": "7"}
    assert manifest["spec"] == {"quotas": [quota("tpu", 3), quota("a100", 4, lendingLimit=0)]}
    assert desired_project(project, "a100", None)["spec"] == {"quotas": [quota("tpu", 3)]}
    assert desired_project(live(quota("a100", 1), ours=("a100",)), "a100", None)["spec"] == {}


def test_quota_spec_of_a_resource() -> None:
    project = live(quota("a100", 4, borrowingLimit=0))
    assert quota_spec_of(project, "a100") == QuotaSpec(nominal=4, borrowing_limit=0)
    assert quota_spec_of(project, "h100") is None


def test_apply_runs_a_dry_run_first_and_check_only_the_dry_run() -> None:
    server = FakeServer(live())
    resources(server).apply(change())
    assert [dry for dry, _ in server.sent] == [True, False]
    server.sent.clear()
    resources(server).check(change())
    assert [dry for dry, _ in server.sent] == [True]


def test_unchanged_quota_is_not_sent() -> None:
    server = FakeServer(live(quota("a100", 4)))
    resources(server).apply(change())
    resources(server).apply(change(None, "h100"))
    assert server.sent == []


def test_conflict_is_retried_a_limited_number_of_times() -> None:
    stale = KubeConflictError("the object has been modified", status=409)
    server = FakeServer(live(), stale, stale)
    resources(server).apply(change())
    assert server.reads == 3
    server = FakeServer(live(), *[stale] * 50)
    with pytest.raises(domain.UnavailableError):
        resources(server).apply(change())
    assert server.reads < 10


def test_recreated_project_is_not_found() -> None:
    server = FakeServer(live())
    with pytest.raises(domain.NotFoundError):
        resources(server).apply(change(uid="11111111-d9cb-469f-a165-70867728950e"))
    with pytest.raises(domain.NotFoundError):
        resources(FakeServer(None)).apply(change())
    assert server.sent == []


def test_conflict_names_the_field_managers() -> None:
    conflicts = '.spec.quotas[pool="a100"].nominal: conflict with "helm" using windlass.dev/v1alpha1; '
    conflicts += '.spec.quotas[pool="a100"].lendingLimit: conflict with "argocd-controller" using windlass.dev/v1alpha1'
    with pytest.raises(domain.ConflictError, match=r"is managed by argocd-controller, helm$") as raised:
        resources(FakeServer(live(), KubeConflictError("conflict", managers=conflicts))).apply(change())
    assert raised.value.context == {"managers": ["argocd-controller", "helm"]}
    assert "where it is managed" in raised.value.hint


def test_quota_owned_by_others_is_not_removed() -> None:
    server = FakeServer(live(quota("a100", 1), ours=("a100",), theirs=("a100",)))
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
def test_rejection_points_to_the_field_of_the_request(cause: Cause, pointer: str, problem: str) -> None:
    server = FakeServer(live(quota("h100", 1)), KubeInvalidError("apply Project: refused", causes=[cause]))
    with pytest.raises(domain.InvalidError) as raised:
        resources(server).check(change())
    [found] = raised.value.fields
    assert found.pointer == pointer
    assert found.problem.startswith(problem)
    assert found.problem in raised.value.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KubeInvalidError("no causes are listed"), domain.InvalidError),
        (KubeForbiddenError('admission webhook "x" denied the request: no'), domain.InvalidError),
        (KubeForbiddenError('projects "search" is forbidden: User "x" cannot patch'), domain.UnavailableError),
        (KubeUnavailableError("nobody answers"), domain.UnavailableError),
        (NoKindMatchError("Project: not served"), domain.UnavailableError),
        (KubeNotFoundError("gone meanwhile"), domain.NotFoundError),
        (KubeApiError("a teapot"), domain.UnavailableError),
    ],
)
def test_kube_errors_become_domain_errors(error: KubeApiError, expected: type[domain.WindlassError]) -> None:
    with pytest.raises(domain.WindlassError) as raised:
        resources(FakeServer(live(), error)).check(change())
    assert type(raised.value) is expected
    assert raised.value.retryable == (expected is domain.UnavailableError)
