"""The Ray Serve deployment class: one replica of one application."""

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ray.serve._private import replica as ray_replica
from ray.util import get_node_ip_address
from starlette.requests import Request
from starlette.responses import Response

from windlass.domain.endpoints import ServedApp
from windlass.domain.errors import WindlassError
from windlass.domain.specs import Task
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.serve.artifact import ModelLoadError, load_verified_metadata
from windlass_pipelines.serve.node_cache import artifact_folder


class ServeApp(Protocol):
    """The application of one task: an ASGI-like handler with a health check."""

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        """Handle an HTTP request."""
        ...

    def check_health(self) -> None:
        """Raise an error when the replica must be replaced."""
        ...


def load_app(app: ServedApp, threads: int, hosts: tuple[str, ...]) -> ServeApp:
    """Fetch and verify the artifact of an application, and load its model.

    Raises:
        ModelLoadError: the artifact is not published, invalid, or cannot be loaded.
    """
    try:
        with artifact_folder(app, folder_transfer()) as folder:
            return _load_folder(app, folder, threads, hosts)
    except (WindlassError, OSError) as error:
        raise ModelLoadError(error) from error


def _load_folder(app: ServedApp, folder: Path, threads: int, hosts: tuple[str, ...]) -> ServeApp:
    metadata = load_verified_metadata(folder, app.digest, app.task)
    # Imported here: neither the controller process, which imports this module to deploy it, nor a replica with an
    # invalid artifact needs torch.
    match app.task:
        case Task.TEXT_CLASSIFICATION:
            from windlass_pipelines.serve.classification import TextClassificationApp  # noqa: PLC0415 - needs torch

            return TextClassificationApp(app, folder, metadata, threads, hosts)
        case Task.CHAT:
            from windlass_pipelines.serve.chat import ChatApp  # noqa: PLC0415 - needs torch

            return ChatApp(app, folder, metadata, threads, hosts)


class Replica:
    """Loads the application of the task and forwards requests to it."""

    def __init__(self, app_json: str, threads: int, hosts: Sequence[str]) -> None:
        """Load the model.

        Args:
            app_json: a ``ServedApp``.
            threads: CPU threads for the model.
            hosts: accepted host names in requests; empty accepts all.

        Raises:
            ModelLoadError: the artifact is invalid or cannot be loaded; the message is one line.
        """
        _bind_grpc_to_node_address()
        self._application = load_app(ServedApp.model_validate_json(app_json), threads, tuple(hosts))

    async def __call__(self, request: Request) -> Response:
        """Handle an HTTP request."""
        return await self._application(request)

    def check_health(self) -> None:
        """Called periodically by Serve, which replaces the replica on an error."""
        self._application.check_health()


def _bind_grpc_to_node_address() -> None:
    """Bind the gRPC server of this replica to the node's address, which other replicas connect to.

    Ray binds it to all interfaces and has no option for it. Serve starts the server after the constructor of the
    deployment, so the function that adds the port is replaced here. A replica that cannot do so must not start.
    """
    add_port = ray_replica.add_port_to_grpc_server
    if add_port.__module__ == __name__:
        return

    def add_node_port(server: Any, address: str) -> int:
        port = address.rpartition(":")[2]
        bound: int = add_port(server, f"{get_node_ip_address()}:{port}")
        return bound

    ray_replica.add_port_to_grpc_server = add_node_port
