"""Purposes and consent of datasets: jobs are refused, models and endpoints show what they may be used for."""

from datetime import timedelta
from typing import Any

import pytest
from tests.fakes.harness import ControlPlaneHarness

from windlass.ports import BackendState

OURS = "/v1/projects/ours"


def restrict(harness: ControlPlaneHarness, dataset: str = "reviews", **changes: Any) -> dict[str, Any]:
    url = f"{OURS}/datasets/{dataset}"
    reply = harness.client.patch(url, json=changes, headers={"If-Match": harness.client.get(url).headers["ETag"]})
    assert reply.status_code == 200, reply.text
    changed: dict[str, Any] = reply.json()
    return changed


def submit(harness: ControlPlaneHarness, key: str, *, route: str = "jobs", **spec: Any) -> Any:
    task = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}
    body = {"spec": {**task, **spec}}
    return harness.client.post(f"{OURS}/{route}", json=body, headers={"Idempotency-Key": key})


def register(harness: ControlPlaneHarness, key: str, **spec: Any) -> None:
    reply = submit(harness, key, **spec)
    assert reply.status_code == 202, reply.text
    harness.run_worker_once(2)
    run = harness.simulated_run(reply.json())
    run.acquire_attempt()
    run.finish(1)
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once()


@pytest.mark.parametrize("purpose", [None, "advertising"])
def test_a_job_for_a_purpose_that_the_dataset_does_not_allow_is_refused(
    ready: ControlPlaneHarness, purpose: str | None
) -> None:
    assert restrict(ready, purposes=["support-bot", "research"])["purposes"] == ["research", "support-bot"]
    refused = submit(ready, "1", purpose=purpose)
    assert (refused.status_code, refused.json()["code"]) == (422, "purpose_not_allowed")
    assert refused.json()["context"]["purposes"] == ["research", "support-bot"]
    assert submit(ready, "2", purpose="support-bot").status_code == 202


def test_a_dataset_without_purposes_allows_any(ready: ControlPlaneHarness) -> None:
    assert submit(ready, "1", purpose="anything").status_code == 202
    assert submit(ready, "2").status_code == 202


def test_no_job_is_accepted_after_the_end_of_the_consent(ready: ControlPlaneHarness) -> None:
    end = ready.clock.now() + timedelta(hours=1)
    restrict(ready, consent_until=end.isoformat())
    accepted = submit(ready, "1")
    assert accepted.status_code == 202
    ready.clock.advance(3600)
    refused = submit(ready, "2")
    assert (refused.status_code, refused.json()["code"]) == (422, "consent_expired")
    assert ready.client.get(f"{OURS}/jobs/{accepted.json()['id']}").json()["state"] == "queued", "it was accepted"
    ready.client.post(f"{OURS}/jobs/{accepted.json()['id']}:cancel")
    retried = ready.client.post(f"{OURS}/jobs/{accepted.json()['id']}:retry", headers={"Idempotency-Key": "3"})
    assert (retried.status_code, retried.json()["code"]) == (422, "consent_expired")
    restrict(ready, consent_until=None)
    assert submit(ready, "4").status_code == 202


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2030-01-01T00:00:00"])
def test_a_time_that_cannot_be_stored_or_has_no_zone_is_refused(ready: ControlPlaneHarness, end: str) -> None:
    url = f"{OURS}/datasets/reviews"
    headers = {"If-Match": ready.client.get(url).headers["ETag"]}
    assert ready.client.patch(url, json={"consent_until": end}, headers=headers).status_code == 422


def test_a_patch_leaves_other_fields(ready: ControlPlaneHarness) -> None:
    restrict(ready, purposes=["support-bot"], description="texts")
    changed = restrict(ready, purposes=[])
    assert (changed["purposes"], changed["description"], changed["consent_until"]) == ([], "texts", None)


def test_models_and_endpoints_carry_the_purposes_of_their_data(ready: ControlPlaneHarness) -> None:
    ready.create_dataset("ours", "letters")
    restrict(ready, purposes=["support-bot", "research"])
    restrict(ready, "letters", purposes=["support-bot", "mail"])
    register(ready, "1", purpose="support-bot")
    register(ready, "2", purpose="mail", dataset="letters")
    version = ready.client.get(f"{OURS}/models/classifier/versions/1").json()
    assert version["purposes"] == ["research", "support-bot"]
    traffic = [{"model": "classifier", "version": number, "weight": 50} for number in (1, 2)]
    made = ready.client.post(f"{OURS}/endpoints", json={"name": "desk", "spec": {"traffic": traffic}})
    assert made.status_code == 202, made.text
    for _ in range(2):
        ready.rollouts.step()
    assert ready.client.get(f"{OURS}/endpoints").json()["items"][0]["purposes"] == ["support-bot"]


def test_an_endpoint_needs_a_purpose_that_all_of_its_models_have(ready: ControlPlaneHarness) -> None:
    ready.create_dataset("ours", "letters")
    restrict(ready, purposes=["support-bot"])
    restrict(ready, "letters", purposes=["mail"])
    register(ready, "1", purpose="support-bot")
    register(ready, "2", purpose="mail", dataset="letters")
    traffic = [{"model": "classifier", "version": number, "weight": 50} for number in (1, 2)]
    refused = ready.client.post(f"{OURS}/endpoints", json={"name": "desk", "spec": {"traffic": traffic}})
    assert refused.status_code == 422
    assert "no purpose in common" in refused.json()["detail"]
