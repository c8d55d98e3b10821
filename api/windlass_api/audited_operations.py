"""What the audit log calls the operations of the API, and what it records of a denied request."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from windlass.domain.audit_changes import shortened
from windlass.domain.projects import Principal
from windlass.services.denials import ANONYMOUS, DeniedRequest
from windlass_api.dependencies import client_address

AUDITED: Mapping[str, str] = {
    "abortUpload": "upload.abort",
    "cancelJob": "job.cancel",
    "cancelErasure": "erasure.cancel",
    "cleanDatasetVersion": "dataset.clean",
    "commitUpload": "upload.commit",
    "confirmErasure": "erasure.confirm",
    "createBaseModel": "base-model.create",
    "createBrowserSession": "session.create",
    "createCliSession": "session.create",
    "createDataset": "dataset.create",
    "createEndpoint": "endpoint.create",
    "createJob": "job.create",
    "createKey": "key.create",
    "createLinkSession": "session.create",
    "createPool": "pool.create",
    "createProject": "project.create",
    "createServiceAccount": "service-account.create",
    "createServiceAccountKey": "key.create",
    "createSignInLink": "session.create-link",
    "createUpload": "upload.create",
    "deleteBaseModel": "base-model.delete",
    "deleteDataset": "dataset.delete",
    "deleteDatasetVersion": "dataset-version.delete",
    "deleteEndpoint": "endpoint.delete",
    "deleteJob": "job.delete",
    "deleteModel": "model.delete",
    "deleteModelAlias": "model.alias-delete",
    "deleteModelVersion": "model-version.delete",
    "deletePool": "pool.delete",
    "deleteProject": "project.delete",
    "deleteQuota": "quota.delete",
    "deleteServiceAccount": "service-account.delete",
    "disableUser": "user.disable",
    "enableUser": "user.enable",
    "endOtherSession": "session.end",
    "endSession": "session.end",
    "importBaseModel": "base-model.import",
    "putBudget": "budget.put",
    "putGroup": "member.put",
    "putMember": "member.put",
    "putModelAlias": "model.alias",
    "putQuota": "quota.put",
    "removeGroup": "member.remove",
    "removeMember": "member.remove",
    "renewKey": "key.renew",
    "renewServiceAccountKey": "key.renew",
    "retryJob": "job.create",
    "revokeKey": "key.revoke",
    "revokeServiceAccountKey": "key.revoke",
    "startErasure": "erasure.search",
    "updateDataset": "dataset.update",
    "updateEndpoint": "endpoint.update",
    "updateModel": "model.update",
    "updatePool": "pool.update",
    "updateProject": "project.update",
    "updateServiceAccount": "service-account.update",
}
"""The action of each operation that changes something: one entry for each request that did."""
DENIED_ONLY: Mapping[str, str] = {
    "putBaseModelFile": "base-model.write-file",  # the entries of its creation and import have the hashes of the files
    "putUploadFile": "upload.write-file",  # as above
    "signUploadParts": "upload.sign-parts",  # changes nothing
    "simulateJob": "job.simulate",  # changes nothing
}
"""Operations whose accepted requests have no entry, because they change nothing or are part of another one."""
NEVER = frozenset({"predict", "createChatCompletion"})
"""Predictions change nothing."""
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_UNKNOWN = "request.unknown"
_INTERNAL = "request.internal"
_INTERNAL_PREFIX = "/internal/"


def denied_request(scope: Scope, code: str, routes: Sequence[BaseRoute]) -> DeniedRequest | None:
    """Return what to record of a denied request to one of the routes, None for one that changes nothing."""
    if scope["type"] != "http" or scope["method"] in _READS:
        return None
    path = scope["path"]
    operation, parameters = _route(scope, routes)
    if operation in NEVER:
        return None
    action = AUDITED.get(operation) or DENIED_ONLY.get(operation)
    if action is None:
        action = _INTERNAL if path.startswith(_INTERNAL_PREFIX) else _UNKNOWN
    principal = scope.get("windlass.principal")
    known = principal if isinstance(principal, Principal) else None
    return DeniedRequest(
        actor=known.user if known else ANONYMOUS,
        key=known.credential if known else scope.get("windlass.claimed_key"),
        address=client_address(scope),
        request_id=scope["windlass.request_id"],
        project=parameters.get("project") if known else None,
        action=action,
        name=shortened(f"{scope['method']} {_printable(path)}"),
        code=code,
    )


def _printable(text: str) -> str:
    """Replace what a database does not store, or a terminal would execute."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _route(scope: Scope, routes: Sequence[BaseRoute]) -> tuple[str, Mapping[str, Any]]:
    """Return the operation and the path parameters of a request; one without a credential has not been routed."""
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL:
            return getattr(route, "operation_id", None) or "", child.get("path_params", {})
    return "", {}
