"""A small client of the API server: for questions asked many times a second, where a kubectl each would cost a core."""

import base64
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml
from tests.bed.failures import BedError
from tests.bed.layout import Bed

Json = dict[str, Any]


class ClusterApi:
    """Speaks to the API server as the bed's admin, over one connection."""

    def __init__(self, bed: Bed) -> None:
        config = json.loads(bed.kubeconfig.read_text("utf-8"))
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        context.load_cert_chain(bed.pki / "admin.crt", bed.pki / "admin.key")
        address = urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=10, context=context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, str]:
        """The status and the text of an answer; status 0 when nobody answers."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""

    def read(self, path: str) -> Json | None:
        """An object or a list, None when it is not to be had (yet)."""
        status, text = self.call("GET", path)
        return json.loads(text) if status == HTTPStatus.OK else None

    def items(self, path: str) -> list[Json]:
        found: list[Json] = (self.read(path) or {}).get("items", [])
        return found

    def answers(self, path: str) -> bool:
        return self.call("GET", path)[0] == HTTPStatus.OK


def condition(subject: Json | None, kind: str) -> bool:
    """Whether an object has the condition, and it is true."""
    conditions = ((subject or {}).get("status") or {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def available(api: ClusterApi, namespace: str, deployment: str) -> bool:
    return condition(api.read(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"), "Available")


def kubectl(bed: Bed, *arguments: str, given: str | None = None) -> str:
    """Run the bed's own kubectl on the host.

    Raises:
        BedError: with what it said.
    """
    environment = os.environ | {"KUBECONFIG": str(bed.kubeconfig), "KUBECACHEDIR": str(bed.life / "home" / "kube")}
    ended = subprocess.run(
        [str(bed.bin / "kubectl"), *arguments],
        input=given,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise BedError(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout


def apply(bed: Bed, objects: Iterable[Json]) -> None:
    """Apply objects on the server's side: definitions of custom resources are too long for the other way."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl(bed, "apply", "--server-side", "--force-conflicts", "--field-manager=bed", "-f", "-", given=text)


def documents(text: str) -> Iterator[Json]:
    """The objects of a stream of YAML."""
    return (each for each in yaml.safe_load_all(text) if each)


def documents_of(path: Path) -> Iterator[Json]:
    return documents(path.read_text("utf-8"))
