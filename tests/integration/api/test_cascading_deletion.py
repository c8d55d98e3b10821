"""Deletion by lineage: a dry run lists all descendants, and a cascading deletion removes them, endpoints first."""

from typing import Any

import pytest
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.ports import BackendState
from windlass.services.cascades import CascadeContinuation, CascadeDeletions

OURS = "/v1/projects/ours"


@pytest.fixture
def served(ready: ControlPlaneHarness) -> ControlPlaneHarness:
    """A project whose endpoint ``desk`` serves ``classifier@1``, which was trained on ``reviews@1``."""
    train(ready, "1")
    serve(ready, "desk", 1)
    return ready


def train(harness: ControlPlaneHarness, key: str, **spec: Any) -> str:
    job = harness.submit("ours", key=key, **spec)
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    run.acquire_attempt()
    run.finish(1)
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once()
    return str(job["id"])


def serve(harness: ControlPlaneHarness, name: str, *versions: int) -> None:
    weight = 100 // len(versions)
    spec = {"traffic": [{"model": "classifier", "version": number, "weight": weight} for number in versions]}
    reply = harness.client.post(f"{OURS}/endpoints", json={"name": name, "spec": spec})
    assert reply.status_code == 202, reply.text
    for _ in range(2):
        harness.rollouts.step()


def delete(harness: ControlPlaneHarness, url: str, *, dry_run: bool = False, status: int = 200) -> dict[str, Any]:
    etag = harness.client.get(url).headers.get("ETag", "*")
    params = {"dry_run": dry_run, "cascade": True}
    reply = harness.client.delete(url, headers={"If-Match": etag}, params=params)
    assert reply.status_code == status, reply.text
    deletion: dict[str, Any] = reply.json()
    return deletion


def stop_replicas(harness: ControlPlaneHarness) -> None:
    harness.rollouts.step()
    harness.serving.finish_removal()
    harness.rollouts.step()


def continue_deletions(harness: ControlPlaneHarness) -> bool:
    return CascadeContinuation(harness.worker.deps).step()


def effects(deletion: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["effect"], each["kind"], each["name"]) for each in deletion["descendants"]]


def status(harness: ControlPlaneHarness, path: str) -> int:
    return harness.client.get(f"{OURS}/{path}").status_code


def files(harness: ControlPlaneHarness) -> list[str]:
    return sorted(harness.deps.store.keys("projects"))


@pytest.mark.parametrize("path", ["datasets/reviews", "datasets/reviews/versions/1"])
def test_a_dry_run_lists_every_descendant_and_changes_nothing(served: ControlPlaneHarness, path: str) -> None:
    job = served.client.get(f"{OURS}/jobs").json()["items"][0]["id"]
    before = files(served)
    listed = effects(delete(served, f"{OURS}/{path}", dry_run=True))
    whole = path == "datasets/reviews"
    assert listed == [
        ("deleted", "endpoint", "desk"),
        ("deleted", "model version", "classifier@1"),
        ("deleted", "job", job),
        *([("deleted", "dataset version", "reviews@1")] if whole else []),
        ("stays", "model", "classifier"),
        *([] if whole else [("stays", "dataset", "reviews")]),
        ("stays", "base model", "tiny"),
    ]
    assert files(served) == before
    assert status(served, "endpoints/desk") == status(served, path) == 200


@pytest.mark.database("sqlite", "postgresql")
def test_descendants_are_deleted_after_the_endpoint_has_stopped(served: ControlPlaneHarness) -> None:
    delete(served, f"{OURS}/datasets/reviews")
    assert served.client.get(f"{OURS}/endpoints/desk").json()["state"] == "deleting"
    assert continue_deletions(served)
    assert status(served, "models/classifier/versions/1") == status(served, "datasets/reviews") == 200
    stop_replicas(served)
    continue_deletions(served)
    for path in ("endpoints/desk", "models/classifier/versions/1", "datasets/reviews"):
        assert status(served, path) == 404
    assert served.client.get(f"{OURS}/jobs").json()["items"] == []
    assert status(served, "models/classifier") == 200
    served.dispatch_outbox()
    served.delete_expired()
    assert files(served) == []
    assert not continue_deletions(served)


def test_every_deleted_object_has_an_audit_row_of_the_user(served: ControlPlaneHarness) -> None:
    delete(served, f"{OURS}/datasets/reviews")
    stop_replicas(served)
    continue_deletions(served)
    rows = served.client.get("/v1/audit").json()["items"]
    deleted = {row["action"]: (row["name"], row["actor"]) for row in rows if "delete" in row["action"]}
    assert deleted["dataset.delete"] == ("reviews", "admin")
    assert deleted["endpoint.delete"] == ("desk", "admin")
    assert deleted["model-version.delete"] == ("classifier@1", "admin")
    assert deleted["dataset-version.delete"] == ("reviews@1", "admin")
    assert "job.delete" in deleted


def test_an_active_job_blocks_and_is_named(served: ControlPlaneHarness) -> None:
    active = served.submit("ours", key="2")["id"]
    preview = delete(served, f"{OURS}/datasets/reviews", dry_run=True)
    assert ("blocks", "job", active) in effects(preview)
    refused = delete(served, f"{OURS}/datasets/reviews", status=409)
    assert refused["context"]["blockers"] == [f"job {active}"]
    assert served.client.get(f"{OURS}/endpoints/desk").json()["state"] == "ready"


def test_an_endpoint_that_serves_other_data_blocks(ready: ControlPlaneHarness) -> None:
    ready.create_dataset("ours", "letters")
    train(ready, "1")
    train(ready, "2", dataset="letters")
    serve(ready, "desk", 1, 2)
    preview = delete(ready, f"{OURS}/datasets/reviews", dry_run=True)
    assert ("blocks", "endpoint", "desk") in effects(preview)
    assert ("deleted", "model version", "classifier@2") not in effects(preview)
    delete(ready, f"{OURS}/datasets/reviews", status=409)


@pytest.mark.database("sqlite", "postgresql")
def test_a_job_that_was_submitted_meanwhile_holds_the_rest_back(served: ControlPlaneHarness) -> None:
    delete(served, f"{OURS}/datasets/reviews")
    late = served.submit("ours", key="late")["id"]
    stop_replicas(served)
    assert continue_deletions(served)
    assert status(served, "models/classifier/versions/1") == status(served, "datasets/reviews") == 200
    served.client.post(f"{OURS}/jobs/{late}:cancel")
    served.run_worker_once(3)
    continue_deletions(served)
    assert status(served, "datasets/reviews") == status(served, f"jobs/{late}") == 404


@pytest.mark.parametrize("path", ["models/classifier", "models/classifier/versions/1"])
def test_a_model_goes_with_its_endpoint_and_aliases_but_without_its_data(
    served: ControlPlaneHarness, path: str
) -> None:
    served.client.put(f"{OURS}/models/classifier/aliases/champion", json={"version": 1})
    assert effects(delete(served, f"{OURS}/{path}"))[0] == ("deleted", "endpoint", "desk")
    stop_replicas(served)
    continue_deletions(served)
    assert status(served, path) == 404
    assert status(served, "datasets/reviews") == 200
    if path.endswith("1"):
        assert served.client.get(f"{OURS}/models/classifier").json()["aliases"] == {}


def test_a_project_goes_with_its_endpoints(served: ControlPlaneHarness) -> None:
    delete(served, OURS)
    assert served.client.get(OURS).status_code == 200
    stop_replicas(served)
    continue_deletions(served)
    assert served.client.get(OURS).status_code == 404


class KilledError(BaseException):
    """Stands for the end of the process: nothing of the product catches it."""


@pytest.mark.parametrize("point", ["cascade.before_commit", "cascade.committed", "cascade.continue.before_commit"])
def test_a_kill_leaves_all_or_nothing_and_the_deletion_completes(
    served: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise KilledError

    monkeypatch.setattr("windlass.services.cascades.failpoint", kill)
    with served.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    try:
        CascadeDeletions(served.deps, ADMIN, project).delete_dataset("reviews", 2, dry_run=False)
        stop_replicas(served)
        continue_deletions(served)
    except KilledError:
        pass
    else:
        pytest.fail(f"{point} was not reached")
    monkeypatch.undo()
    assert status(served, "models/classifier/versions/1") == status(served, "datasets/reviews") == 200
    if point == "cascade.before_commit":
        assert served.client.get(f"{OURS}/endpoints/desk").json()["state"] == "ready"
        assert not continue_deletions(served)
        return
    stop_replicas(served)
    continue_deletions(served)
    assert status(served, "models/classifier/versions/1") == status(served, "datasets/reviews") == 404


def test_a_key_without_the_right_to_delete_endpoints_cannot_cascade(served: ControlPlaneHarness) -> None:
    served.client.post(f"{OURS}/service-accounts", json={"name": "cleaner", "role": "editor"})
    body = {"name": "key", "permissions": ["datasets:read", "datasets:write"]}
    made = served.client.post(f"{OURS}/service-accounts/cleaner/keys", json=body)
    assert made.status_code == 201, made.text
    client = served.client_for_key(made.json()["secret"])
    etag = client.get(f"{OURS}/datasets/reviews").headers["ETag"]
    for cascade, expected in ((True, 403), (False, 200)):
        params = {"cascade": cascade, "dry_run": True}
        reply = client.delete(f"{OURS}/datasets/reviews", headers={"If-Match": etag}, params=params)
        assert reply.status_code == expected
