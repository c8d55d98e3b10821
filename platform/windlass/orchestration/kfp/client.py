"""A client of the REST API of a Kubeflow Pipelines server, version v2beta1.

Errors of runs and their logs are only in the older versions of the API, which 2.17 still serves.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx2
from pydantic import ValidationError

from windlass.domain.errors import UnavailableError
from windlass.orchestration.kfp.package import PipelinePackage
from windlass.orchestration.kfp.runs import ServerRun, WorkflowNode
from windlass.runtime.http import internal_client

_V2: Final = "/apis/v2beta1"
_PAGE: Final = "100"
_MAX_MESSAGE: Final = 500
_LOG_BYTES: Final = 2**20
"""How much of the end of a log is kept: the result of a run is in its last lines."""

Json = dict[str, Any]


MAX_LISTED_RUNS: Final = 100
"""A request for so many ids has a URL of 5 kB; some proxies reject one of more than 8."""


class Created(Enum):
    """What is known after a request that creates a run."""

    YES = auto()
    UNKNOWN = auto()
    """The reply was lost, cannot be read, or is an error after which the run may exist."""


def parse_run(row: Json) -> ServerRun:
    """Return a run as it is in replies.

    Raises:
        UnavailableError: it cannot be read.
    """
    try:
        return ServerRun.model_validate(row)
    except ValidationError as error:
        run_id = row.get("run_id")
        raise UnavailableError(f"run {run_id} cannot be read: {error.error_count()} validation errors") from error


def has_no_reply(error: UnavailableError) -> bool:
    """Return whether the server was not reached, or has not replied; False if it has replied with an error."""
    return isinstance(error.__cause__, httpx2.HTTPError)


class KfpClient:
    """Client of one server. Thread-safe.

    Args:
        host: URL of the API server.
        token_file: projected token with the audience ``pipelines.kubeflow.org``, which a multi-user server requires;
            read for every request, because the kubelet renews it.
        timeout: seconds until a reply must have begun.
        connect: creates the HTTP client.
    """

    def __init__(
        self,
        host: str,
        token_file: Path | None = None,
        *,
        timeout: float = 30.0,
        connect: Callable[..., httpx2.Client] = internal_client,
    ) -> None:
        self.host, self._token_file = host.rstrip("/"), token_file
        self._http = connect(timeout=timeout)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ------------------------------------------------------------ server

    def is_multi_user(self) -> bool:
        """Return whether the server separates users by namespace.

        Raises:
            UnavailableError: it cannot be reached, or does not reply as Kubeflow Pipelines.
        """
        health = self._json("GET", f"{_V2}/healthz")
        if not isinstance(health.get("multi_user", False), bool):
            raise UnavailableError(f"{self.host} does not reply as a Kubeflow Pipelines server")
        return bool(health.get("multi_user", False))

    def check_access(self) -> None:
        """Check that runs can be listed, which a multi-user server allows only by namespace.

        Raises:
            UnavailableError: they cannot.
        """
        self._json("GET", f"{_V2}/runs", params={"page_size": "1"})

    # ------------------------------------------------------------ runs

    def run(self, run_id: str) -> ServerRun | None:
        """Return a run; None if the server does not know it.

        Raises:
            UnavailableError: this cannot be determined now.
        """
        reply = self._send("GET", f"{_V2}/runs/{run_id}")
        return None if reply.status_code == HTTPStatus.NOT_FOUND else parse_run(self._decoded(reply))

    def list_runs(self, run_ids: Sequence[str], namespace: str) -> dict[str, Json]:
        """Return those of up to ``MAX_LISTED_RUNS`` runs that the server knows, by id, for ``parse_run``.

        Args:
            run_ids: the ids.
            namespace: of the runs; empty: of a single-user server.

        Raises:
            UnavailableError: this cannot be determined now.
        """
        wanted = {"operation": "IN", "key": "run_id", "string_values": {"values": list(run_ids)}}
        query = {"filter": json.dumps({"predicates": [wanted]}, separators=(",", ":"))}
        rows = self._list(f"{_V2}/runs", "runs", query | ({"namespace": namespace} if namespace else {}))
        return {str(row["run_id"]): row for row in rows}

    def create_run(self, body: Json) -> Created:
        """Create a run. Never repeat it with the same ``run_id``: the server would start a second workflow.

        Raises:
            UnavailableError: the server has rejected it, or was not reached; no run was started.
        """
        try:
            reply = self._request("POST", f"{_V2}/runs", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.LocalProtocolError) as error:
            raise self._unreachable(error) from error
        except httpx2.HTTPError:
            return Created.UNKNOWN
        if reply.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Created.UNKNOWN
        self._check(reply)
        return Created.YES if _is_object(reply) else Created.UNKNOWN

    def terminate(self, run_id: str) -> None:
        """Begin to stop a run; no error if it has ended, stops already or does not exist."""
        reply = self._send("POST", f"{_V2}/runs/{run_id}:terminate")
        if reply.status_code not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            self._decoded(reply)

    def delete_run(self, run_id: str) -> None:
        """Delete a run with its workflow and pods; no error if it does not exist."""
        reply = self._send("DELETE", f"{_V2}/runs/{run_id}")
        if reply.status_code != HTTPStatus.NOT_FOUND:
            self._decoded(reply)

    def nodes(self, run_id: str) -> tuple[WorkflowNode, ...]:
        """Return the nodes of the workflow of a run; none if the server does not know it."""
        reply = self._send("GET", f"/apis/v1beta1/runs/{run_id}")
        return () if reply.status_code == HTTPStatus.NOT_FOUND else WorkflowNode.of_manifest(self._decoded(reply))

    def node_log(self, run_id: str, node: str) -> str:
        """Return the end of the log of a node, which may exist after its pod is gone; empty if there is none.

        Raises:
            UnavailableError: it cannot be read now, or not any more: the server does not distinguish them.
        """
        url = f"{self.host}/apis/v1alpha1/runs/{run_id}/nodes/{node}/log"
        try:
            with self._http.stream("GET", url, headers=self._headers()) as reply:
                if reply.status_code == HTTPStatus.NOT_FOUND:
                    return ""
                end = b""
                for part in reply.iter_bytes(_LOG_BYTES):
                    end = (end + part)[-_LOG_BYTES:]
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error
        text = end.decode(errors="replace")
        self._check(reply, text)
        return text

    # ------------------------------------------------------------ experiments and pipelines

    def ensure_experiment(self, name: str, description: str, namespace: str) -> str:
        """Return the id of an experiment; create it, with the description, if it does not exist."""
        path, query = f"{_V2}/experiments", {"namespace": namespace} if namespace else {}
        for attempt in (1, 2):
            for found in self._list(path, "experiments", query):
                if found.get("display_name") == name:
                    return str(found["experiment_id"])
            reply = self._send("POST", path, json={"display_name": name, "description": description, **query})
            if reply.status_code != HTTPStatus.CONFLICT or attempt > 1:
                return str(self._decoded(reply)["experiment_id"])
        raise AssertionError("unreachable: the second attempt returns or raises")

    def ensure_version(self, pipeline: str, package: PipelinePackage, namespace: str) -> Json:
        """Return the reference of the pipeline version with this content; upload it if it does not exist."""
        pipeline_id = self._ensure_pipeline(pipeline, package, namespace)
        path = f"{_V2}/pipelines/{pipeline_id}/versions"
        for attempt in (1, 2):
            for found in self._list(path, "pipeline_versions", {}):
                if found.get("display_name") == package.version:
                    return {"pipeline_id": pipeline_id, "pipeline_version_id": found["pipeline_version_id"]}
            query = {"name": package.version, "pipelineid": pipeline_id}
            reply = self._upload(f"{_V2}/pipelines/upload_version", query, package)
            if reply.status_code != HTTPStatus.CONFLICT or attempt > 1:
                version = self._decoded(reply)["pipeline_version_id"]
                return {"pipeline_id": pipeline_id, "pipeline_version_id": version}
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _ensure_pipeline(self, name: str, package: PipelinePackage, namespace: str) -> str:
        path, query = f"{_V2}/pipelines", {"namespace": namespace} if namespace else {}
        for attempt in (1, 2):
            for found in self._list(path, "pipelines", query):
                if found.get("display_name") == name:
                    return str(found["pipeline_id"])
            reply = self._upload(f"{path}/upload", {"name": name, **query}, package)
            if reply.status_code != HTTPStatus.CONFLICT or attempt > 1:
                return str(self._decoded(reply)["pipeline_id"])
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _upload(self, path: str, query: Mapping[str, str], package: PipelinePackage) -> httpx2.Response:
        return self._send("POST", path, params=query, files={"uploadfile": ("pipeline.yaml", package.content)})

    def _list(self, path: str, kind: str, query: Mapping[str, str]) -> Iterator[Json]:
        """Yield the items of all pages."""
        token = ""
        while True:
            page = self._json("GET", path, params={**query, "page_size": _PAGE, "page_token": token})
            yield from page.get(kind) or ()
            if not (token := page.get("next_page_token", "")):
                return

    # ------------------------------------------------------------ requests

    def _json(self, method: str, path: str, **options: Any) -> Json:
        return self._decoded(self._send(method, path, **options))

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            return self._request(method, path, **options)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from error

    def _request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self._http.request(method, f"{self.host}{path}", headers=self._headers(), **options)

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text('ascii').strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError(f"the token for Kubeflow Pipelines cannot be read: {error}") from error

    def _unreachable(self, error: httpx2.HTTPError) -> UnavailableError:
        return UnavailableError(f"Kubeflow Pipelines at {self.host} cannot be reached ({type(error).__name__})")

    def _check(self, reply: httpx2.Response, text: str | None = None) -> None:
        """Check the status. ``text``: the body of a streamed reply."""
        if reply.is_success:
            return
        body = reply.text if text is None else text
        try:
            message = str(json.loads(body)["message"])
        except (KeyError, TypeError, ValueError):
            message = body
        raise UnavailableError(f"Kubeflow Pipelines replies {reply.status_code}: {message[:_MAX_MESSAGE]}")

    def _decoded(self, reply: httpx2.Response) -> Json:
        self._check(reply)
        try:
            decoded = reply.json()
        except ValueError as error:
            raise UnavailableError(f"{self.host} does not reply with JSON") from error
        if not isinstance(decoded, dict):
            raise UnavailableError(f"{self.host} does not reply with a JSON object")
        return decoded


def _is_object(reply: httpx2.Response) -> bool:
    try:
        return isinstance(reply.json(), dict)
    except ValueError:
        return False
