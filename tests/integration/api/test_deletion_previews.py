"""What a deletion removes: shown by a dry run, returned by the deletion, and named in the audit log."""

from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.ports import BackendState

OURS = "/v1/projects/ours"


@pytest.fixture
def served(ready: ControlPlaneHarness) -> ControlPlaneHarness:
    """A project whose endpoint serves a model that was trained on ``reviews@1``."""
    job = ready.submit("ours", key="1")
    ready.run_worker_once(2)
    run = ready.simulated_run(job)
    run.acquire_attempt()
    run.finish(1)
    ready.pipelines.end(run.name, BackendState.SUCCEEDED)
    ready.run_worker_once()
    spec = {"traffic": [{"model": "classifier", "version": 1}]}
    assert ready.client.post(f"{OURS}/endpoints", json={"name": "desk", "spec": spec}).status_code == 202
    ready.rollouts.step()
    ready.rollouts.step()
    return ready


def delete(harness: ControlPlaneHarness, url: str, *, dry_run: bool = False) -> dict[str, Any]:
    etag = harness.client.get(url).headers.get("ETag", "*")
    reply = harness.client.delete(url, headers={"If-Match": etag}, params={"dry_run": dry_run})
    assert reply.status_code in {200, 202}, reply.text
    deletion: dict[str, Any] = reply.json()
    return deletion


def rows(harness: ControlPlaneHarness) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = harness.client.get("/v1/audit").json()["items"]
    return items


@pytest.mark.parametrize("url", [f"{OURS}/datasets/reviews", f"{OURS}/datasets/reviews/versions/1"])
def test_data_of_a_served_model_is_deleted_with_a_warning(served: ControlPlaneHarness, url: str) -> None:
    preview = delete(served, url, dry_run=True)
    assert preview["consequences"] == [
        "1 ended job trained on it and cannot be retried",
        "classifier@1, which endpoint desk serves, stays without the data it was trained on",
    ]
    assert preview["stored_bytes"] > 0
    assert served.client.get(url).status_code == 200
    assert delete(served, url) == preview
    assert served.client.get(url).status_code == 404


def test_an_endpoint_names_what_it_stops_serving(served: ControlPlaneHarness) -> None:
    preview = delete(served, f"{OURS}/endpoints/desk", dry_run=True)
    assert preview["contains"] == {"replica": 1}
    assert preview["consequences"][0] == "it stops serving classifier@1"
    assert served.client.get(f"{OURS}/endpoints/desk").json()["state"] == "ready"
    delete(served, f"{OURS}/endpoints/desk")
    assert served.client.get(f"{OURS}/endpoints/desk").json()["state"] == "deleting"


def test_a_model_names_its_versions_and_aliases(served: ControlPlaneHarness) -> None:
    served.client.put(f"{OURS}/models/classifier/aliases/champion", json={"version": 1})
    refused = served.client.delete(f"{OURS}/models/classifier", headers={"If-Match": '"3"'}, params={"dry_run": True})
    assert (refused.status_code, "endpoint desk serves classifier" in refused.json()["detail"]) == (409, True)
    delete(served, f"{OURS}/endpoints/desk")
    served.rollouts.step()
    served.serving.finish_removal()
    served.rollouts.step()
    preview = delete(served, f"{OURS}/models/classifier", dry_run=True)
    assert preview["contains"] == {"model version": 1}
    assert preview["consequences"] == ["alias champion of version 1 is deleted"]
    assert delete(served, f"{OURS}/models/classifier") == preview


def test_a_project_counts_its_contents(ready: ControlPlaneHarness) -> None:
    ready.client_for_user("bob", project="ours")
    preview = delete(ready, OURS, dry_run=True)
    assert preview["contains"] == {"dataset": 1, "dataset version": 1, "member": 1, "quota": 1, "key": 1}
    assert preview["stored_bytes"] > 0
    before = rows(ready)
    assert ready.client.get(OURS).status_code == 200
    assert delete(ready, OURS) == preview
    assert len(rows(ready)) == len(before) + 1, "a dry run is not audited"


def test_the_audit_log_keeps_the_names_of_what_is_gone(served: ControlPlaneHarness) -> None:
    delete(served, f"{OURS}/endpoints/desk")
    delete(served, f"{OURS}/datasets/reviews/versions/1")
    delete(served, f"{OURS}/datasets/reviews")
    served.rollouts.step()
    served.serving.finish_removal()
    served.rollouts.step()
    delete(served, f"{OURS}/models/classifier/versions/1")
    delete(served, OURS)
    named = {row["action"]: row["name"] for row in rows(served)}
    assert named["endpoint.delete"] == "desk"
    assert named["dataset-version.delete"] == "reviews@1"
    assert named["dataset.delete"] == "reviews"
    assert named["model-version.create"] == named["model-version.delete"] == "classifier@1"
    assert named["project.delete"] == "ours"
    assert all(row["name"] for row in rows(served) if not row["action"].startswith("job."))
