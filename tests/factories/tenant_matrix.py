"""The matrix of operations, callers and ids of two tenants: what each operation takes, and what is wrong with replies.

Everything that a request can name is declared here; ``test_tenant_wall`` compares it with the OpenAPI document.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi.testclient import TestClient
from tests.factories.api_operations import ApiOperation, operations
from tests.factories.two_tenants import THEIRS, Tenant, TwoTenants

NOBODY = "quagga"
"""In the names of objects that do not exist."""

IDENTITIES = {
    "account",
    "alias",
    "change",
    "dataset",
    "endpoint",
    "erasure",
    "group",
    "job",
    "key",
    "model",
    "name",
    "project",
    "session",
    "upload",
    "user",
}
"""Parameters of paths that name an object of a tenant."""
SHARED = {
    "month": "months are the same for all",
    "number": "versions count from 1 in each dataset and model",
    "path": "the files of every version have the same names",
    "pool": "pools belong to the platform",
}
"""The other parameters of paths."""
CREATED = {("putGroup", "group"), ("putMember", "user"), ("putModelAlias", "alias")}
"""Names that an operation gives to an object of the project of the path."""
QUERIES = {"cursor", "match", "project", "actor"}
"""Parameters of queries and headers that may name an object."""
PLAIN = {
    *("If-Match", "Idempotency-Key", "Last-Event-ID", "Upload-Offset", "accept"),
    *(
        "action",
        "after",
        "cascade",
        "dry_run",
        "force",
        "label",
        "limit",
        "names",
        "offset",
        "points",
        "split",
        "step",
        "state",
        "tail",
        "text",
        "through",
        "return_to",
        "code",
        "error",
        "iss",
    ),
    "group_by",
    # of the audit log, which platform roles read
    *("escape_formulas", "format", "head", "key", "outcome", "request_id", "since", "until"),
}
"""The other parameters of queries and headers."""

TRAFFIC = {"model": "{model}", "version": 1, "weight": 100}
JOB = {
    "spec": {
        "task": "text-classification",
        "base_model": "tiny",
        "dataset": "{dataset}",
        "model": "fresh",
        "resources": {"pool": "{pool}"},
    }
}
BODIES: dict[str, Any] = {
    "createKey": {"user": "somebody"},
    "createCliSession": {"id_token": "token"},
    "createBrowserSession": {"key": "key"},
    "createLinkSession": {"code": "code"},
    "createServiceAccount": {"name": "fresh", "role": "viewer"},
    "updateServiceAccount": {"role": "viewer"},
    "createServiceAccountKey": {"name": "fresh"},
    "createPool": {"name": "fresh", "capacity": 1},
    "updatePool": {"capacity": 1},
    "createProject": {"name": "fresh"},
    "updateProject": {"display_name": "changed"},
    "putMember": {"role": "viewer"},
    "putGroup": {"role": "viewer"},
    "putQuota": {"nominal": 1},
    "putBudget": {"gpu_hours": 1, "cost": None},
    "createDataset": {"name": "fresh", "task": "text-classification"},
    "updateDataset": {"description": "changed"},
    "startErasure": {"contains": ["private text"], "rows": [{"group": "customer"}]},
    "cleanDatasetVersion": {"steps": [{"op": "deduplicate"}]},
    "createUpload": {"dataset": "{dataset}", "files": [{"name": "a.csv", "bytes": 1, "sha256": "0" * 64}]},
    "createBaseModel": {"name": "fresh", "path": "/nowhere", "licence": "mit"},
    "createJob": JOB,
    "simulateJob": JOB,
    "updateModel": {"description": "changed"},
    "putModelAlias": {"version": 1},
    "createEndpoint": {"name": "fresh", "spec": {"traffic": [TRAFFIC]}},
    "updateEndpoint": {"spec": {"traffic": [TRAFFIC]}},
    "predict": {"inputs": ["text"]},
    "createChatCompletion": {"messages": [{"role": "user", "content": "text"}]},
}
"""A valid body of each operation that takes JSON; ``{parameter}`` is the value of a parameter of paths."""
REFERENCES: dict[str, tuple[str, ...]] = {
    "JobSpec.dataset": ("createJob", "simulateJob"),
    "TrafficTarget.model": ("createEndpoint", "updateEndpoint"),
    "TrafficTarget.alias": ("createEndpoint", "updateEndpoint"),
    "UploadIn.dataset": ("createUpload",),
}
"""Fields that name an object of the project of the path, and the operations of which a test sets them."""
NOT_REFERENCES = {
    "names a new object of the project, or one that it adds to": {
        *("DatasetIn.name", "EndpointIn.name", "JobSpec.model", "JobSpec.name", "DeploySpec.endpoint"),
        *("ServiceAccountIn.name", "UploadFileIn.name"),
    },
    "names an object of the platform": {"EndpointSpec.pool", "JobSpec.base_model", "ResourcesSpec.pool"},
    "of an operation of platform admins": {
        *("BaseModelFileIn.path", "BaseModelFileIn.sha256", "BaseModelIn.licence", "BaseModelIn.name"),
        *("BaseModelIn.path", "BaseModelIn.source", "PoolIn.gpu_type"),
        *("PoolIn.name", "PoolPatch.gpu_type", "ProjectIn.cohort", "ProjectIn.display_name", "ProjectIn.name"),
        "ProjectPatch.cohort",
    },
    "has a test of its own": {"KeyIn.project"},
    "a secret that a request without credentials sends": {
        *("IdTokenIn.id_token", "KeySessionIn.key", "LinkSessionIn.code"),
    },
    "text": {
        *("KeyIn.name", "KeyIn.user", "ServiceAccountIn.description", "ServiceAccountKeyIn.name"),
        *("DatasetIn.consent_until", "DatasetIn.description", "DatasetIn.purposes", "DatasetPatch.consent_until"),
        *("DatasetPatch.description", "DatasetPatch.purposes", "ErasureIn.contains", "ErasureIn.rows"),
        *("FillMissing.value", "Gate.metric", "JobSpec.purpose"),
        *("IngestOptions.delimiter", "LoraMethod.target_modules", "ModelPatch.description"),
        *("PredictIn.inputs", "ProjectPatch.display_name", "UploadFileIn.sha256", "createChatCompletion.model"),
    },
}
"""The other text fields of bodies, by the reason why they need no test."""
FORMATS = ("*/*", "text/event-stream", "text/html")
"""Media types that an operation may offer."""
NOT_READY = {"getDatasetReport", "listDatasetRows"}
"""Reads that fail in the tests' project, because its dataset version has no files."""


@dataclass
class Matrix:
    """Sends requests and collects what is wrong about the replies."""

    platform: TwoTenants
    wrong: list[str] = field(default_factory=list)
    sent: int = 0
    _clients: dict[str | None, TestClient] = field(default_factory=dict)

    @property
    def operations(self) -> list[ApiOperation]:
        return operations(self.platform.app)

    def values(self, operation: ApiOperation, tenant: Tenant) -> dict[str, str]:
        """Return the values of the parameters for a tenant."""
        values = dict(tenant.ids)
        if "/base-models" in operation.path:
            values["name"] = "tiny"
        elif operation.path.endswith("/metrics/{name}"):
            values["name"] = "train_loss"
        elif "/service-accounts/" in operation.path:
            values["key"] = values["account_key"]
        return values

    def send(
        self,
        token: str | None,
        operation: ApiOperation,
        values: dict[str, str],
        query: dict[str, str] | None = None,
        accept: str = "*/*",
    ) -> tuple[int, str]:
        """Return status and text of the reply, without the values that the request contains."""
        path, body = operation.path, json.dumps(BODIES.get(operation.identity))
        for name, value in values.items():
            path, body = path.replace(f"{{{name}}}", value), body.replace(f'"{{{name}}}"', json.dumps(value))
        self.sent += 1
        query = query or {}
        headers = {"Accept": accept, "If-Match": '"1"', "Idempotency-Key": f"key-{self.sent}", "X-Request-ID": "same"}
        content: dict[str, Any] = {"content": b"x" if operation.body.endswith("octet-stream") else None}
        if operation.body.endswith("json"):
            content, headers["Content-Type"] = {"content": body}, "application/json"
        if token not in self._clients:
            self._clients[token] = self.platform.client(token)
        reply = self._clients[token].request(operation.method, path, params=query, headers=headers, **content)
        text = reply.text
        for value in sorted({*values.values(), *query.values()}, key=len, reverse=True):
            text = text.replace(value, "...") if THEIRS in value or NOBODY in value or len(value) > 20 else text
        return reply.status_code, text

    def expect(self, condition: object, *facts: object) -> None:
        if not condition:
            self.wrong.append(" ".join(str(fact) for fact in facts))

    def compare(
        self,
        tokens: Iterable[str | None],
        operation: ApiOperation,
        foreign: dict[str, str],
        absent: dict[str, str],
        expected: tuple[int, ...],
        accept: str = "*/*",
        *,
        query: dict[str, str] | None = None,
    ) -> None:
        """Expect each caller's reply for a foreign object to be the one for an object that does not exist."""
        control: tuple[int, str] | None = None
        for token in tokens:
            reply = self.send(token, operation, foreign, query, accept=accept)
            control = control or self.send(token, operation, absent, query, accept=accept)
            refused = reply[0] in expected or "capability_missing" in reply[1]
            self.expect(refused, operation.identity, foreign, *reply)
            self.expect(reply == control, operation.identity, "differs for an absent object", foreign, reply, control)
            self.expect(THEIRS not in reply[1], operation.identity, "shows a foreign name", *reply)


def absent(value: str) -> str:
    """Return the name or the id of an object that does not exist, of the same form."""
    return value.replace(THEIRS, NOBODY) if THEIRS in value else f"{value[:-4]}zzzz"


def is_identity(operation: ApiOperation, name: str) -> bool:
    is_shared = "/base-models" in operation.path or operation.path.endswith("/metrics/{name}")
    return name in IDENTITIES and not (name == "name" and is_shared)
