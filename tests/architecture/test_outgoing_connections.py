"""Attack class 5: no address in a request becomes a connection of the server.

Every module of the control plane that can open a connection is listed with the setting or object that its address comes
from; none of them is a request. A new module has to be added here, with its source.
"""

import ast
import re
from pathlib import Path

from pydantic import AnyUrl, BaseModel
from tests.architecture.tree import ROOT, parsed, python_files
from tests.integration.api.test_input_types import request_models

CLIENTS = {"httpx2", "httpx", "urllib.request", "urllib3", "http.client", "socket", "ssl", "ftplib", "smtplib", "boto3"}
CLIENTS |= {"botocore", "requests", "aiohttp", "psycopg", "kubernetes", "telnetlib", "xmlrpc", "websockets"}
SERVER = ("api", "operators", "platform")
CLIENT_PACKAGES = ("platform/windlass/sdk", "platform/windlass/cli", "platform/windlass/examples")
"""What runs on the machine of a user: the user chooses the server."""

_NAMES_CLIENT = re.compile("|".join(rf"\b{re.escape(name.partition('.')[0])}\b" for name in sorted(CLIENTS)))
"""Only files that name a client are parsed."""

RUN_CONTEXT = "the control plane's internal URL in the context of a run, from WINDLASS_CLUSTER_INTERNAL_URL or --port"
OUTGOING = {
    "api/windlass_api/cluster.py": "listens; connects nowhere",
    "api/windlass_api/forwarding.py": "model servers: URLs that the serving back end reports",
    "api/windlass_api/http_server.py": "listens; connects nowhere",
    "api/windlass_api/model_server.py": "model servers: URLs that the serving back end reports",
    "api/windlass_api/process.py": "listens; connects nowhere",
    "operators/windlass_operators/main.py": "the name of its host; connects nowhere",
    "platform/windlass/db": "WINDLASS_DATABASE_URL",
    "platform/windlass/identity": "WINDLASS_OIDC_ISSUER, and the endpoints in the metadata of this issuer",
    "platform/windlass/kube": "the kubeconfig, or the service account of the pod",
    "platform/windlass/orchestration/kfp": "WINDLASS_PIPELINES_KFP_HOST",
    "platform/windlass/runtime": RUN_CONTEXT,
    "platform/windlass/serving/probe.py": "model servers: URLs that the serving back end reports",
    "platform/windlass/settings.py": "reads certificates; connects nowhere",
    "platform/windlass/storage": "WINDLASS_S3_ENDPOINT, and URLs that the control plane has signed for it",
}
"""Modules and packages by where their addresses come from."""


def _text(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def connecting_modules() -> set[str]:
    modules = set()
    for path in python_files():
        name = path.as_posix()
        if path.parts[0] in SERVER and not name.startswith(CLIENT_PACKAGES) and _NAMES_CLIENT.search(_text(path)):
            roots = {imported for imported in imports(path) for client in CLIENTS if imported == client}
            roots |= {imported for imported in imports(path) if imported.partition(".")[0] in CLIENTS}
            if roots:
                modules.add(name)
    return modules


def listed(module: str) -> str | None:
    return next((name for name in OUTGOING if module == name or module.startswith(f"{name}/")), None)


def test_every_module_that_can_connect_is_listed_with_the_source_of_its_addresses() -> None:
    modules = connecting_modules()
    assert {module for module in modules if listed(module) is None} == set()
    assert {listed(module) for module in modules} == set(OUTGOING), "an entry of the list is not used"


ADDRESS = re.compile(r"(^|_)(url|uri|host|hostname|address|callback|webhook|redirect|proxy|server)(_|s?$)")
NO_ADDRESSES = {
    "UriRequest.uri": "a URI in the object store: the token says below which prefixes",
    "FolderRequest.uri": "the same",
    "FileRequest.uri": "the same",
    "PartsRequest.uri": "the same",
    "CompleteRequest.uri": "the same",
}


def test_no_request_has_a_field_for_an_address() -> None:
    fields = {
        f"{model.__name__}.{name}"
        for model in request_models()
        for name, field in model.model_fields.items()
        if ADDRESS.search(name) or _is_url(field.annotation)
    }
    assert fields - NO_ADDRESSES.keys() == set()


def _is_url(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, AnyUrl) and not issubclass(annotation, BaseModel)
