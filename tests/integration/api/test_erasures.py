"""Erasures of data subjects: search, confirmation, deletion of old versions, tracked descendants, certificate."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.factories.inline_processor import InlineProcessor
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.datasets import VersionState
from windlass.domain.erasures import certificate_digest, normalize_search_text
from windlass.ports import BackendState
from windlass.services.erasing import UNCONFIRMED_FOR, Erasing

OURS = "/v1/projects/ours"
SUBJECT = "ada@example.com"


class Platform(ControlPlaneHarness):
    """A control plane whose datasets are processed in this process."""

    def step(self, times: int = 4) -> None:
        """Run the loops that an erasure needs."""
        for _ in range(times):
            Erasing(self.worker.deps, self.worker.processing.processor).step()
            self.worker.processing.poll()
            self.dispatch_outbox()

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        """Replace the rows of the training split of reviews@1."""
        with self.database.write() as uow:
            version = uow.all_projects().dataset_versions.all()[0]
            updated = version.model_copy(update={"rows": {**version.rows, "train": len(rows)}})
            uow.project(version.project).dataset_versions.save(updated)
        path = self.store_folder / version.prefix / "train.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")

    def erase(self, *, confirm: bool = True, **query: Any) -> dict[str, Any]:
        """Search, and confirm what was found."""
        reply = self.client.post(f"{OURS}/datasets/reviews:erase", json=query)
        assert reply.status_code == 202, reply.text
        self.step()
        erasure = self.erasure(reply.json()["id"])
        if confirm:
            headers = {"If-Match": f'"{erasure["version"]}"'}
            accepted = self.client.post(f"{OURS}/erasures/{erasure['id']}:confirm", headers=headers)
            assert accepted.status_code == 202, accepted.text
            self.step()
        return self.erasure(erasure["id"])

    def erasure(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"{OURS}/erasures/{key}").json()
        return found

    def certificate(self, key: str) -> dict[str, Any]:
        reply = self.client.get(f"{OURS}/erasures/{key}/certificate")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["certificate"]
        return found

    def stored_text(self) -> str:
        """The content of every file in the object store, with the strings of JSON lines decoded."""
        texts = []
        for path in self.store_folder.rglob("*"):
            if path.is_file():
                content = path.read_text("utf-8", "replace")
                texts.append(content)
                if path.suffix == ".jsonl":
                    texts += [str(value) for line in content.splitlines() for value in json.loads(line).values()]
        return "\n".join(texts)

    def train(self, key: str, **spec: Any) -> None:
        """Train a model on a version, and register it."""
        job = self.submit("ours", key=key, **spec)
        self.run_worker_once(2)
        run = self.simulated_run(job)
        run.acquire_attempt()
        run.finish(1)
        self.pipelines.end(run.name, BackendState.SUCCEEDED)
        self.run_worker_once()

    def serve(self, number: int) -> None:
        """Serve a version of the model."""
        spec = {"traffic": [{"model": "classifier", "version": number}]}
        etag = self.client.get(f"{OURS}/endpoints/desk").headers.get("ETag")
        if etag is None:
            reply = self.client.post(f"{OURS}/endpoints", json={"name": "desk", "spec": spec})
        else:
            reply = self.client.patch(f"{OURS}/endpoints/desk", json={"spec": spec}, headers={"If-Match": etag})
        assert reply.status_code == 202, reply.text
        for _ in range(3):
            self.rollouts.step()
        self.serving.finish_removal()
        self.rollouts.step()


def rows_with_subject() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"text": f"plain text {number}", "label": "ab"[number % 2]} for number in range(4)]
    return [*rows, {"text": f"Write to  ADA@example.com {'x' * 9}", "label": "a", "group": "customer-17"}]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    built = Platform(tmp_path, processor=InlineProcessor(tmp_path / "work"))
    with built.client:
        built.create_project("ours")
        built.create_base_model()
        built.create_dataset("ours")
        built.write_rows(rows_with_subject())
        yield built
    built.close()


def flags(platform: Platform) -> tuple[list[str], list[str], list[str]]:
    """The flags of the model, of its first version, and of the endpoint."""
    model = platform.client.get(f"{OURS}/models").json()["items"][0]
    versions = platform.client.get(f"{OURS}/models/classifier/versions").json()["items"]
    first = [key for item in versions if item["number"] == 1 for key in item["erasure_pending"]]
    endpoints = platform.client.get(f"{OURS}/endpoints").json()["items"]
    return model["erasure_pending"], first, endpoints[0]["erasure_pending"] if endpoints else []


@pytest.mark.parametrize(
    "query",
    [
        {"contains": ["  ada@EXAMPLE.com "]},
        {"contains": ["nobody here", SUBJECT]},
        {"rows": [{"group": "customer-17"}]},
        {"rows": [{"group": "customer-17", "label": "a"}]},
    ],
)
def test_a_search_counts_the_rows_and_changes_nothing(platform: Platform, query: dict[str, Any]) -> None:
    found = platform.erase(confirm=False, **query)
    assert (found["state"], found["rows"]) == ("found", 1)
    assert [(each["number"], each["matches"]) for each in found["versions"]] == [(1, 1)]
    assert SUBJECT not in json.dumps(found)
    assert SUBJECT in platform.stored_text().lower()


@pytest.mark.parametrize(
    "query", [{"rows": [{"group": "customer-17", "label": "b"}]}, {"contains": ["ada@example.org"]}]
)
def test_rows_of_others_do_not_match(platform: Platform, query: dict[str, Any]) -> None:
    found = platform.erase(confirm=False, **query)
    assert (found["state"], found["rows"]) == ("found", 0)
    headers = {"If-Match": f'"{found["version"]}"'}
    assert platform.client.post(f"{OURS}/erasures/{found['id']}:confirm", headers=headers).status_code == 409


@pytest.mark.parametrize(
    "query", [{}, {"contains": ["a "]}, {"rows": [{}]}, {"rows": [{"email": "x"}]}, {"contains": [1]}]
)
def test_a_query_that_finds_nothing_or_everything_is_refused(platform: Platform, query: dict[str, Any]) -> None:
    assert platform.client.post(f"{OURS}/datasets/reviews:erase", json=query).status_code == 422


def test_the_rows_are_gone_from_every_file_and_the_keys_from_the_database(platform: Platform) -> None:
    erasure = platform.erase(contains=[SUBJECT])
    assert (erasure["state"], erasure["new_version"]) == ("complete", 2)
    assert platform.client.get(f"{OURS}/datasets/reviews/versions/1").status_code == 404
    page = platform.client.get(f"{OURS}/datasets/reviews/versions/2/rows").json()["items"]
    assert [row["text"] for row in page] == [f"plain text {number}" for number in range(4)]
    assert SUBJECT not in platform.stored_text().lower()
    with platform.database.read() as uow:
        stored = uow.all_projects().erasures.all()[0]
    assert stored.query is None
    assert SUBJECT not in stored.model_dump_json().lower()


def test_the_certificate_says_who_what_and_when_without_the_keys(platform: Platform) -> None:
    erasure = platform.erase(contains=[SUBJECT])
    certificate = platform.certificate(erasure["id"])
    assert certificate["rows_erased"] == 1
    assert certificate["requested_by"] == certificate["confirmed_by"] == "admin"
    assert [each["version"] for each in certificate["versions_deleted"]] == ["reviews@1"]
    assert certificate["versions_deleted"][0]["files_deleted"]
    assert certificate["new_version"] == "reviews@2"
    key = f"contains:{normalize_search_text(SUBJECT)}"
    with platform.database.read() as uow:
        project = uow.projects.get({"name": "ours"}).id
    assert certificate["search_key_hashes"] == [platform.deps.hasher.erasure_key(project, key)]
    assert SUBJECT not in json.dumps(certificate)
    assert certificate["digest"] == certificate_digest(certificate)
    assert certificate_digest({**certificate, "rows_erased": 2}) != certificate["digest"]
    assert platform.certificate(erasure["id"]) == certificate


@pytest.mark.database("sqlite", "postgresql")
def test_a_model_and_its_endpoint_are_flagged_until_the_model_is_retrained_and_deleted(platform: Platform) -> None:
    platform.train("1")
    platform.serve(1)
    erasure = platform.erase(contains=[SUBJECT])
    key = erasure["id"]
    assert erasure["state"] == "pending"
    assert flags(platform) == ([key], [key], [key])
    before = platform.certificate(key)
    platform.train("2", dataset="reviews@2")
    platform.step()
    assert flags(platform) == ([key], [key], [key]), "a newer version alone is not enough"
    platform.serve(2)
    platform.step()
    assert flags(platform) == ([key], [key], [])
    platform.serve(1)
    platform.step()
    assert flags(platform)[2] == [key], "it serves the old version again"
    platform.serve(2)
    assert platform.client.delete(f"{OURS}/models/classifier/versions/1").status_code == 200
    platform.step()
    assert flags(platform) == ([], [], [])
    certificate = platform.certificate(key)
    outcomes = {each["name"]: (each["outcome"], each["replaced_by"]) for each in certificate["descendants"]}
    assert outcomes == {"classifier@1": ("retrained", "classifier@2"), "desk": ("updated", "")}
    assert certificate["state"] == "complete"
    assert certificate["digest"] != before["digest"]


def test_a_deleted_model_resolves_the_flag(platform: Platform) -> None:
    platform.train("1")
    erasure = platform.erase(contains=[SUBJECT])
    platform.client.delete(f"{OURS}/models/classifier/versions/1")
    platform.step()
    assert platform.erasure(erasure["id"])["descendants"][0]["outcome"] == "deleted"
    assert platform.erasure(erasure["id"])["state"] == "complete"


def test_a_model_of_a_deleted_ancestor_is_flagged_too(platform: Platform) -> None:
    platform.train("1")
    platform.client.post(f"{OURS}/datasets/reviews/versions/1:clean", json={"steps": [{"op": "deduplicate"}]})
    platform.step()
    etag = platform.client.get(f"{OURS}/datasets/reviews/versions/1").headers["ETag"]
    headers = {"If-Match": etag}
    assert platform.client.delete(f"{OURS}/datasets/reviews/versions/1", headers=headers).status_code == 200
    erasure = platform.erase(contains=[SUBJECT])
    assert [each["name"] for each in erasure["descendants"]] == ["classifier@1"]


def test_all_versions_with_the_rows_are_deleted_and_others_stay(platform: Platform) -> None:
    steps = [{"op": "drop-missing"}]
    platform.client.post(f"{OURS}/datasets/reviews/versions/1:clean", json={"steps": steps})
    platform.step()
    platform.erase(contains=["plain text 3"])
    platform.client.post(f"{OURS}/datasets/reviews/versions/3:clean", json={"steps": steps})
    platform.step()
    items = platform.client.get(f"{OURS}/datasets/reviews/versions").json()["items"]
    assert [item["number"] for item in items] == [4, 3]
    second = platform.erase(contains=["plain text 3"], confirm=False)
    assert second["rows"] == 0


def test_an_active_job_and_a_newer_version_prevent_the_confirmation(platform: Platform) -> None:
    found = platform.erase(confirm=False, contains=[SUBJECT])
    url, headers = f"{OURS}/erasures/{found['id']}:confirm", {"If-Match": f'"{found["version"]}"'}
    job = platform.submit("ours", key="1")["id"]
    refused = platform.client.post(url, headers=headers)
    assert (refused.status_code, refused.json()["context"]["jobs"]) == (409, [job])
    platform.client.post(f"{OURS}/jobs/{job}:cancel")
    platform.run_worker_once(3)
    platform.client.post(f"{OURS}/datasets/reviews/versions/1:clean", json={"steps": [{"op": "deduplicate"}]})
    assert platform.client.post(url, headers=headers).status_code == 409
    platform.step()
    assert "changed since" in platform.client.post(url, headers=headers).json()["detail"]
    assert platform.client.post(url, headers={"If-Match": '"1"'}).status_code == 412


def test_what_begins_after_the_confirmation_keeps_no_rows(platform: Platform) -> None:
    found = platform.erase(confirm=False, contains=[SUBJECT])
    headers = {"If-Match": f'"{found["version"]}"'}
    platform.client.post(f"{OURS}/erasures/{found['id']}:confirm", headers=headers)
    clean = f"{OURS}/datasets/reviews/versions/1:clean"
    assert platform.client.post(clean, json={"steps": [{"op": "deduplicate"}]}).status_code == 409
    job = platform.submit("ours", key="1")["id"]
    platform.step()
    waiting = platform.erasure(found["id"])
    assert (waiting["state"], job in waiting["problem"]) == ("erasing", True)
    platform.client.post(f"{OURS}/jobs/{job}:cancel")
    platform.run_worker_once(3)
    platform.step()
    assert platform.erasure(found["id"])["state"] == "complete"


def test_old_versions_stay_if_the_new_one_is_deleted_meanwhile(platform: Platform) -> None:
    found = platform.erase(confirm=False, contains=[SUBJECT])
    headers = {"If-Match": f'"{found["version"]}"'}
    platform.client.post(f"{OURS}/erasures/{found['id']}:confirm", headers=headers)
    erasing = Erasing(platform.worker.deps, platform.worker.processing.processor)
    erasing.step()
    etag = platform.client.get(f"{OURS}/datasets/reviews/versions/2").headers["ETag"]
    platform.client.delete(f"{OURS}/datasets/reviews/versions/2", headers={"If-Match": etag})
    platform.step()
    assert platform.erasure(found["id"])["state"] == "failed"
    assert platform.client.get(f"{OURS}/datasets/reviews/versions/1").status_code == 200


def test_the_keys_of_a_search_that_is_not_confirmed_are_deleted(platform: Platform) -> None:
    platform.erase(confirm=False, contains=[SUBJECT])
    platform.clock.advance(UNCONFIRMED_FOR.total_seconds() + 60)
    platform.step()
    cancelled = platform.erase(confirm=False, contains=[SUBJECT])
    platform.client.post(f"{OURS}/erasures/{cancelled['id']}:cancel")
    with platform.database.read() as uow:
        erasures = uow.all_projects().erasures.all()
    assert [(each.state, each.query) for each in erasures] == [("cancelled", None), ("cancelled", None)]


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "point", ["erasure.version.before_commit", "erasure.delete.before_commit", "erasure.delete.committed"]
)
def test_a_killed_erasure_completes(platform: Platform, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def kill(name: str) -> None:
        if name == point:
            raise KilledError

    monkeypatch.setattr("windlass.services.erasing.failpoint", kill)
    found = platform.erase(confirm=False, contains=[SUBJECT])
    headers = {"If-Match": f'"{found["version"]}"'}
    platform.client.post(f"{OURS}/erasures/{found['id']}:confirm", headers=headers)
    with pytest.raises(KilledError):
        platform.step()
    monkeypatch.undo()
    platform.step()
    assert platform.erasure(found["id"])["state"] == "complete"
    with platform.database.read() as uow:
        versions = uow.all_projects().dataset_versions.all()
    assert [(each.number, each.state) for each in versions] == [(2, VersionState.READY)]
    assert SUBJECT not in platform.stored_text().lower()
