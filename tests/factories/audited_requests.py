"""One accepted request of each operation that changes something, with a check of its audit entry."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.audit import AuditEntry, AuditOutcome
from windlass.ports import BackendState, Changes, UnitOfWork
from windlass.services.cascades import CascadeContinuation
from windlass.services.erasing import Erasing
from windlass_api.audited_operations import AUDITED

P = "/v1/projects/ours"
ROWS = b"text,label\n" + b"".join(b"private sentence %d,%d\n" % (n, n % 2) for n in range(20))
WEIGHTS = b"w" * 100
CLEANING = {"steps": [{"op": "deduplicate"}]}
SPEC = {"task": "text-classification", "base_model": "tiny", "dataset": "reviews", "model": "classifier"}


@dataclass
class CommittedTransactions:
    """A commit hook: the audit entries of each transaction, and whether it has changed anything else."""

    seen: list[tuple[list[AuditEntry], bool]] = field(default_factory=list)

    def prepare(self, uow: UnitOfWork, changes: Changes) -> None:
        del uow
        entries = [each for each in changes.saved.get(AuditEntry, []) if isinstance(each, AuditEntry)]
        self.seen.append((entries, bool((changes.saved.keys() | changes.deleted.keys()) - {AuditEntry})))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class AuditedScenario:
    """One accepted request of each operation, in an order in which each finds what it needs."""

    def __init__(self, harness: ControlPlaneHarness) -> None:
        self.harness = harness
        self.client = harness.client
        self.transactions = CommittedTransactions()
        harness.database.add_commit_hook(self.transactions)
        self.called: list[str] = []
        self.secrets: list[str] = [self.client.headers["Authorization"].removeprefix("Bearer ")]
        self.address = "testclient"
        self.trained = 0

    def etag(self, path: str) -> dict[str, str]:
        return {"If-Match": self.client.get(path).headers["ETag"]}

    def call(self, operation: str, method: str, path: str, **more: Any) -> Any:
        """Send a request, and check its audit entry if its operation has one."""
        before = self.entries()
        self.transactions.seen.clear()
        request_id = f"request-{len(self.called)}"
        headers = {"X-Request-Id": request_id, **more.pop("headers", {})}
        client, earlier = more.pop("client", self.client), more.pop("earlier", ())
        reply = client.request(method, path, headers=headers, **more)
        assert reply.status_code < 300, (operation, reply.status_code, reply.text)
        self.called.append(operation)
        added = [entry for entry in self.entries() if entry not in before and entry.action not in earlier]
        changing = [
            seen for seen in self.transactions.seen if any(seen) and [each.action for each in seen[0]] != [*earlier]
        ]
        if operation in AUDITED:
            self.check(operation, added, changing, request_id)
        else:
            assert added == [], operation
        return None if reply.status_code == 204 else reply.json()

    def check(
        self, operation: str, added: list[AuditEntry], changing: list[tuple[list[AuditEntry], bool]], request_id: str
    ) -> None:
        [entry] = added
        assert changing == [([entry], True)], f"{operation}: the change and its entry have one transaction"
        assert entry.action == AUDITED[operation]
        assert (entry.outcome, entry.code, entry.count) == (AuditOutcome.ACCEPTED, "", 1)
        assert (entry.request_id, entry.address) == (request_id, self.address)
        assert entry.key is not None
        if entry.actor == "admin":
            assert entry.key.removeprefix("key_") in self.secrets[0]
        else:
            assert (entry.actor, entry.key[:4]) == ("carol", "ses_")
        assert entry.subject
        assert entry.changes, f"{operation}: the entry says what changed"

    def entries(self) -> list[AuditEntry]:
        with self.harness.database.read() as uow:
            return uow.audit.all()

    def run(self) -> None:
        parts = [self.keys, self.pools, self.projects, self.accounts, self.sessions, self.data, self.base_models]
        for part in (*parts, self.jobs, self.models, self.erasures):
            part()
        self.endpoints()
        self.end()

    def keys(self) -> None:
        made = self.call("createKey", "POST", "/v1/keys", json={"user": "ada", "name": "laptop"})
        renewed = self.call("renewKey", "POST", f"/v1/keys/{made['id']}:renew")
        self.secrets += [made["secret"], renewed["secret"]]
        self.call("revokeKey", "DELETE", f"/v1/keys/{made['id']}")

    def pools(self) -> None:
        self.call("createPool", "POST", "/v1/pools", json={"name": "big", "capacity": 4})
        self.call("updatePool", "PATCH", "/v1/pools/big", json={"capacity": 8}, headers=self.etag("/v1/pools/big"))

    def projects(self) -> None:
        self.call("createProject", "POST", "/v1/projects", json={"name": "ours", "cohort": "lab"})
        self.call("updateProject", "PATCH", P, json={"display_name": "Ours"}, headers=self.etag(P))
        self.call("putMember", "PUT", f"{P}/members/bob", json={"role": "editor"})
        self.call("removeMember", "DELETE", f"{P}/members/bob")
        self.call("putGroup", "PUT", f"{P}/groups/staff", json={"role": "viewer"})
        self.call("removeGroup", "DELETE", f"{P}/groups/staff")
        self.call("putBudget", "PUT", f"{P}/budget", json={"gpu_hours": 9, "cost": None}, headers={"If-Match": '"0"'})
        self.call("putQuota", "PUT", f"{P}/quotas/big", json={"nominal": 2})

    def accounts(self) -> None:
        url = f"{P}/service-accounts"
        body = {"name": "nightly", "role": "editor", "description": "d"}
        self.call("createServiceAccount", "POST", url, json=body)
        self.call("updateServiceAccount", "PATCH", f"{url}/nightly", json={"role": "viewer"})
        made = self.call("createServiceAccountKey", "POST", f"{url}/nightly/keys", json={})
        renewed = self.call("renewServiceAccountKey", "POST", f"{url}/nightly/keys/{made['id']}:renew")
        self.secrets += [made["secret"], renewed["secret"]]
        self.call("revokeServiceAccountKey", "DELETE", f"{url}/nightly/keys/{made['id']}")
        self.call("deleteServiceAccount", "DELETE", f"{url}/nightly")

    def sessions(self) -> None:
        self.call("createBrowserSession", "POST", "/v1/auth/browser-sessions", json={"key": self.secrets[0]})
        link = self.call("createSignInLink", "POST", "/v1/auth/links")
        self.secrets.append(link["path"].partition("=")[2])
        self.call("createLinkSession", "POST", "/v1/auth/link-sessions", json={"code": self.secrets[-1]})
        opened = [self.sign_in("user.create")]
        self.call("disableUser", "POST", "/v1/users/carol:disable")
        self.call("enableUser", "POST", "/v1/users/carol:enable")
        self.harness.clock.advance(3600)
        opened = [self.sign_in("user.update"), self.sign_in()]
        carol = self.harness.client_for_key(opened[0]["secret"])
        self.call("endOtherSession", "DELETE", f"/v1/sessions/{opened[1]['id']}", client=carol)
        self.call("endSession", "DELETE", "/v1/session", client=carol)

    def sign_in(self, *earlier: str) -> Any:
        """Open a session; ``earlier``: the action of the entry of the user, which has a transaction of its own."""
        body = {"id_token": "carol"}
        opened = self.call("createCliSession", "POST", "/v1/auth/cli-sessions", json=body, earlier=earlier)
        self.secrets.append(opened["secret"])
        return opened

    def data(self) -> None:
        body = {"name": "notes", "task": "text-classification", "description": "d"}
        self.call("createDataset", "POST", f"{P}/datasets", json=body)
        notes = f"{P}/datasets/notes"
        self.call("updateDataset", "PATCH", notes, json={"description": "e"}, headers=self.etag(notes))
        files = [{"name": "rows.csv", "bytes": len(ROWS), "sha256": sha256(ROWS)}]
        for operation in ("commitUpload", "abortUpload"):
            upload = self.call("createUpload", "POST", f"{P}/uploads", json={"dataset": "notes", "files": files})
            url = f"{P}/uploads/{upload['id']}"
            if operation == "abortUpload":
                self.call(operation, "DELETE", url)
                continue
            self.call("putUploadFile", "PUT", f"{url}/files/rows.csv", content=ROWS, headers={"Upload-Offset": "0"})
            self.call(operation, "POST", f"{url}:commit")
        self.harness.create_dataset("ours")
        cleaned = f"{P}/datasets/reviews/versions/1:clean"
        self.call("cleanDatasetVersion", "POST", cleaned, json=CLEANING)
        version = f"{P}/datasets/reviews/versions/2"
        self.call("deleteDatasetVersion", "DELETE", version, headers=self.etag(version))
        self.call("deleteDataset", "DELETE", notes, headers=self.etag(notes))

    def base_models(self) -> None:
        files = [{"path": "model.safetensors", "bytes": len(WEIGHTS), "sha256": sha256(WEIGHTS)}]
        self.call("createBaseModel", "POST", "/v1/base-models", json={"name": "mini", "files": files})
        url = "/v1/base-models/mini"
        content = {"content": WEIGHTS, "headers": {"Upload-Offset": "0"}}
        self.call("putBaseModelFile", "PUT", f"{url}/files/model.safetensors", **content)
        self.call("importBaseModel", "POST", f"{url}:import")
        self.call("deleteBaseModel", "DELETE", url)
        self.harness.create_base_model()

    def jobs(self) -> None:
        spec = {**SPEC, "resources": {"pool": "big"}}
        self.call("simulateJob", "POST", f"{P}/jobs:simulate", json={"spec": spec})
        job = self.call("createJob", "POST", f"{P}/jobs", json={"spec": spec}, headers={"Idempotency-Key": "1"})
        url = f"{P}/jobs/{job['id']}"
        self.call("cancelJob", "POST", f"{url}:cancel")
        self.harness.run_worker_once(2)
        again = self.call("retryJob", "POST", f"{url}:retry", headers={"Idempotency-Key": "2"})
        self.call("deleteJob", "DELETE", url)
        self.finish(again)

    def finish(self, job: dict[str, Any]) -> None:
        self.harness.run_worker_once(2)
        run = self.harness.simulated_run(job)
        assert run.acquire_attempt().status_code == 200
        assert run.finish(1).status_code == 200
        self.harness.pipelines.end(run.name, BackendState.SUCCEEDED)
        self.harness.run_worker_once(2)

    def models(self) -> None:
        url = f"{P}/models/classifier"
        self.call("updateModel", "PATCH", url, json={"description": "d"}, headers=self.etag(url))
        self.call("putModelAlias", "PUT", f"{url}/aliases/champion", json={"version": 1})
        self.call("deleteModelAlias", "DELETE", f"{url}/aliases/champion")

    def endpoints(self) -> None:
        traffic = {"traffic": [{"model": "classifier", "version": 1}]}
        self.call("createEndpoint", "POST", f"{P}/endpoints", json={"name": "live", "spec": traffic})
        url = f"{P}/endpoints/live"
        change = {"spec": {**traffic, "max_batch_size": 4}}
        self.call("updateEndpoint", "PATCH", url, json=change, headers=self.etag(url))
        self.call("deleteEndpoint", "DELETE", url, headers=self.etag(url))
        for _ in range(3):
            self.harness.rollouts.step()

    def erasures(self) -> None:
        self.harness.create_dataset("ours", "letters")
        url = f"{P}/datasets/letters:erase"
        cancelled = self.call("startErasure", "POST", url, json={"contains": ["text 2"]})
        self.call("cancelErasure", "POST", f"{P}/erasures/{cancelled['id']}:cancel")
        erasure = f"{P}/erasures/{self.call('startErasure', 'POST', url, json={'contains': ['text 1']})['id']}"
        erasing = Erasing(self.harness.worker.deps, self.harness.worker.processing.processor)
        erasing.step()
        erasing.step()
        self.call("confirmErasure", "POST", f"{erasure}:confirm", headers=self.etag(erasure))
        before = self.entries()
        for _ in range(4):
            erasing.step()
            self.harness.processing.poll()
            self.harness.dispatch_outbox()
        worker = [entry for entry in self.entries() if entry not in before]
        states = [(entry.actor, entry.action, entry.changes["state"].after) for entry in worker]
        assert states == [("admin", "erasure.erase", "pending"), ("system", "erasure.complete", "complete")]

    def cascades(self) -> None:
        """Delete each kind of object with its descendants; an endpoint is stopped first, and goes later."""
        self.train_and_serve()
        version = f"{P}/models/classifier/versions/1"
        self.cascade("deleteModelVersion", version, ["endpoint.delete"], [])
        self.train_and_serve()
        model = f"{P}/models/classifier"
        self.cascade("deleteModel", model, ["endpoint.delete"], ["model-version.delete"])
        self.train_and_serve()
        first = f"{P}/datasets/reviews/versions/1"
        jobs = self.client.get(f"{P}/jobs", params={"state": "succeeded"}).json()["items"]
        later = ["model-version.delete", *["job.delete"] * len(jobs)]
        self.cascade("deleteDatasetVersion", first, ["endpoint.delete"], later)
        self.harness.create_dataset("ours", "essays")
        self.cascade("deleteDataset", f"{P}/datasets/essays", ["dataset-version.delete"], [])
        self.cascade("deleteProject", P, [], [], dry_run=True)

    def train_and_serve(self) -> None:
        """Serve the newest version of a model that is trained now."""
        self.trained += 1
        key, pool = f"cascade-{self.trained}", {"pool": "big"}
        self.finish(self.harness.submit("ours", key=key, dataset="reviews@1", resources=pool))
        newest = self.client.get(f"{P}/models/classifier").json()["latest"]
        spec = {"traffic": [{"model": "classifier", "version": newest}]}
        reply = self.client.post(f"{P}/endpoints", json={"name": "desk", "spec": spec})
        assert reply.status_code == 202, reply.text
        self.harness.rollouts.step()
        self.harness.rollouts.step()

    def cascade(self, operation: str, path: str, now: list[str], later: list[str], *, dry_run: bool = False) -> None:
        """Delete an object with its descendants: one entry for each, in the transaction that deletes it."""
        before, request_id = self.entries(), f"{operation}-with-descendants"
        headers = {"X-Request-Id": request_id, "If-Match": self.client.get(path).headers.get("ETag", "*")}
        self.transactions.seen.clear()
        params = {"cascade": True, "dry_run": dry_run}
        reply = self.client.delete(path, headers=headers, params=params)
        assert reply.status_code == 200, (operation, reply.text)
        for _ in range(2):
            self.harness.rollouts.step()
            self.harness.serving.finish_removal()
        CascadeContinuation(self.harness.worker.deps).step()
        added = [entry for entry in self.entries() if entry not in before]
        expected = [] if dry_run else [[AUDITED[operation], *now], *([later] if later else [])]
        assert [[each.action for each in entries] for entries, _ in self.transactions.seen if entries] == expected
        assert sorted(entry.action for entry in added) == sorted(action for group in expected for action in group)
        for entry in added:
            assert (entry.actor, entry.request_id, entry.outcome) == ("admin", request_id, AuditOutcome.ACCEPTED)
            assert entry.changes, f"{operation}: the entry says what was deleted"
            in_request = entry.action == AUDITED[operation] or entry.action in now
            assert (entry.key is not None) == in_request, "the worker has no key"

    def end(self) -> None:
        model = f"{P}/models/classifier"
        self.call("deleteModelVersion", "DELETE", f"{model}/versions/1")
        self.call("deleteModel", "DELETE", model, headers=self.etag(model))
        self.cascades()
        self.call("deleteQuota", "DELETE", f"{P}/quotas/big")
        self.call("deleteProject", "DELETE", P, headers=self.etag(P))
        self.call("deletePool", "DELETE", "/v1/pools/big", headers=self.etag("/v1/pools/big"))
