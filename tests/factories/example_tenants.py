"""Tenants with one object of every kind, which example requests are about, for tests of hostile input."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from fastapi.testclient import TestClient
from tests.fakes.harness import ControlPlaneHarness, SimulatedRun

from windlass.ports import BackendState

UPLOADED = b"text,label\na,x\nb,y\n"


@dataclass
class ExampleTenant:
    """A project, its admin, and the values of the parameters of all routes for its objects."""

    name: str
    uid: str
    admin: TestClient
    run: SimulatedRun
    values: dict[str, str] = field(default_factory=dict)
    """By name of the parameter, see ``ExampleRequest.value_name``."""
    names: dict[str, Any] = field(default_factory=dict)
    """What requests of this tenant say in fields of these names."""

    @property
    def secrets(self) -> set[str]:
        """Texts that no other tenant may see: ids, and the canary in descriptions, rows and logs."""
        return {self.uid, self.canary} | {text for text in self.values.values() if "_" in text}

    @property
    def canary(self) -> str:
        """A text in every description and row of this tenant."""
        return f"canary-of-{self.name}"


def build_tenant(harness: ControlPlaneHarness, name: str, *, pool: str = "local") -> ExampleTenant:
    """Create a project with one object of every kind. The names of its objects have the project's name in them."""
    uid = harness.create_project(name, pool=pool, gpus=2)
    assert harness.client.put(f"/v1/projects/{name}/members/{name}-admin", json={"role": "admin"}).status_code == 200
    admin = harness.client_for_user(f"{name}-admin")
    assert harness.client.put(f"/v1/projects/{name}/groups/{name}-team", json={"role": "viewer"}).status_code == 200
    base, dataset, model, endpoint = f"/v1/projects/{name}", f"data-{name}", f"model-{name}", f"serve-{name}"
    harness.create_dataset(name, dataset)
    canary = f"canary-of-{name}"
    etag = admin.get(f"{base}/datasets/{dataset}").headers["ETag"]
    described = admin.patch(f"{base}/datasets/{dataset}", json={"description": canary}, headers={"If-Match": etag})
    assert described.status_code == 200
    declared = {"name": "a.csv", "bytes": len(UPLOADED), "sha256": hashlib.sha256(UPLOADED).hexdigest()}
    upload = admin.post(f"{base}/uploads", json={"dataset": dataset, "files": [declared]}).json()
    job = harness.submit(name, key="first", client=admin, dataset=dataset, model=model, resources={"pool": pool})
    harness.run_worker_once(2)
    run = harness.simulated_run(job)
    attempt = run.acquire_attempt("trainer").json()["attempt"]
    run.report(attempt, {"type": "log", "text": f"{canary}\n"}, {"type": "metric", "step": 1, "values": {"loss": 0.5}})
    assert run.finish(attempt).status_code == 200
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once()
    assert admin.put(f"{base}/models/{model}/aliases/best-{name}", json={"version": 1}).status_code == 200
    spec = {"traffic": [{"model": model, "version": 1}]}
    assert admin.post(f"{base}/endpoints", json={"name": endpoint, "spec": spec}).status_code == 202
    harness.rollouts.step()
    harness.rollouts.step()
    waiting = harness.submit(name, key="second", client=admin, dataset=dataset, model=model, resources={"pool": pool})
    accounts = f"{base}/service-accounts"
    assert admin.post(accounts, json={"name": f"bot-{name}", "role": "editor"}).status_code == 201
    account_key = admin.post(f"{accounts}/bot-{name}/keys", json={"name": "ci"}).json()
    values = {
        "project": name,
        "dataset": dataset,
        "number": "1",
        "upload": upload["id"],
        "files name": "a.csv",
        "files path": "report.json",
        "job": waiting["id"],
        "metrics name": "loss",
        "model": model,
        "alias": f"best-{name}",
        "endpoint": endpoint,
        "user": f"{name}-admin",
        "group": f"{name}-team",
        "account": f"bot-{name}",
        "account key": account_key["id"],
        "session": "ses_" + "0" * 26,
        "erasure": "ers_" + "0" * 26,
        "month": "2026-01",
        "pool": pool,
        "key": str(admin.get("/v1/whoami").json()["key"]),
        "change": "chg_" + "0" * 26,
        "base model name": "tiny",
        "base model path": "config.json",
    }
    names = {"dataset": dataset, "model": model, "base_model": "tiny", "pool": pool, "version": 1, "endpoint": endpoint}
    return ExampleTenant(name, uid, admin, run, values, names | {"traffic": [{"model": model, "version": 1}]})
