"""A small client of the API server for frequent polling, which would be too slow with a kubectl process per request."""

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
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import LocalCluster

Json = dict[str, Any]


class ClusterApi:
    """A connection to the API server with the cluster's admin certificate."""

    def __init__(self, cluster: LocalCluster, *, timeout_seconds: float = 10) -> None:
        config = json.loads(cluster.kubeconfig.read_text("utf-8"))
        entry = config["clusters"][0]["cluster"]
        authority = base64.b64decode(entry["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        context.load_cert_chain(cluster.pki / "admin.crt", cluster.pki / "admin.key")
        address = urlsplit(entry["server"])
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=timeout_seconds, context=context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, str]:
        """Status and text of the response; status 0 without a response."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
            response = self._connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""

    def read(self, path: str) -> Json | None:
        """An object or a list, None unless the response is 200."""
        status, text = self.call("GET", path)
        return json.loads(text) if status == HTTPStatus.OK else None

    def watch(self, path: str) -> Iterator[Json]:
        """The events of a watch until the server ends it.

        Raises:
            OSError, http.client.HTTPException, ValueError: the connection was closed, or refused.
        """
        self._connection.request("GET", path, headers={"Accept": "application/json"})
        response = self._connection.getresponse()
        if response.status != HTTPStatus.OK:
            raise http.client.HTTPException(f"{response.status} {response.read().decode(errors='replace')}")
        for line in response:
            yield json.loads(line)

    def items(self, path: str) -> list[Json]:
        items: list[Json] = (self.read(path) or {}).get("items", [])
        return items

    def is_ok(self, path: str) -> bool:
        return self.call("GET", path)[0] == HTTPStatus.OK


def condition(subject: Json | None, kind: str) -> bool:
    """Whether an object's condition is True."""
    conditions = ((subject or {}).get("status") or {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def available(api: ClusterApi, namespace: str, deployment: str) -> bool:
    return condition(api.read(f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"), "Available")


def kubectl(cluster: LocalCluster, *arguments: str, given: str | None = None) -> str:
    """Run the cluster's kubectl on the host.

    Raises:
        LocalClusterError: it failed; with its standard error.
    """
    environment = os.environ | {
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBECACHEDIR": str(cluster.run_dir / "home" / "kube"),
    }
    ended = subprocess.run(
        [str(cluster.bin / "kubectl"), *arguments],
        input=given,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise LocalClusterError(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()[-2000:]}")
    return ended.stdout


def apply(cluster: LocalCluster, objects: Iterable[Json]) -> None:
    """Apply objects server-side: CRDs are too long for the last-applied annotation."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kubectl(
        cluster, "apply", "--server-side", "--force-conflicts", "--field-manager=testcluster", "-f", "-", given=text
    )


def documents(text: str) -> Iterator[Json]:
    """The objects of a YAML stream."""
    return (each for each in yaml.safe_load_all(text) if each)


def documents_of(path: Path) -> Iterator[Json]:
    return documents(path.read_text("utf-8"))
