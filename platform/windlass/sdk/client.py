"""The blocking client."""

from pathlib import Path
from types import TracebackType
from typing import Self

from windlass.sdk._core import DEFAULT_RETRIES, READ_TIMEOUT, Scope
from windlass.sdk._transport import Transport
from windlass.sdk.connection import Connection, resolve
from windlass.sdk.resources.base_models import BaseModels
from windlass.sdk.resources.datasets import Datasets
from windlass.sdk.resources.endpoints import Endpoints
from windlass.sdk.resources.job_handles import Jobs
from windlass.sdk.resources.models import Models
from windlass.sdk.resources.platform import Audit, Keys, Pools, Quotas, Server, Usage
from windlass.sdk.resources.projects import Members, Projects


class Client:
    """A project on a Windlass server.

    Server, key and project are those given, else of the environment (``WINDLASS_URL``, ``WINDLASS_KEY``,
    ``WINDLASS_PROJECT``), else of the config file, else the server on this machine.

    Args:
        url: like ``http://127.0.0.1:8400``.
        key: the API key.
        project: the project that the nouns work in; ``default`` if nothing says otherwise.
        key_file: a file that holds the key.
        home: data folder of the server on this machine.
        timeout: seconds without a byte after which a request has failed.
        retries: how often a request is sent again when that is safe and may help.

    Raises:
        UnavailableError: no server is known.
        UnauthenticatedError: no key is known.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        project: str | None = None,
        *,
        key_file: Path | None = None,
        home: Path | None = None,
        timeout: float = READ_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        connection = resolve(url=url, key=key, project=project, key_file=key_file, home=home)
        self._attach(connection, Transport(connection, timeout=timeout, retries=retries))

    def _attach(self, connection: Connection, transport: Transport) -> None:
        self.connection = connection
        self._transport = transport
        scope = Scope(connection.project)
        self.server = Server(transport, scope)
        self.projects = Projects(transport, scope)
        self.members = Members(transport, scope)
        self.keys = Keys(transport, scope)
        self.pools = Pools(transport, scope)
        self.quotas = Quotas(transport, scope)
        self.datasets = Datasets(transport, scope)
        self.base_models = BaseModels(transport, scope)
        self.jobs = Jobs(transport, scope)
        self.models = Models(transport, scope)
        self.endpoints = Endpoints(transport, scope)
        self.usage = Usage(transport, scope)
        self.audit = Audit(transport, scope)

    def in_project(self, project: str) -> "Client":
        """Return a client for another project that shares this one's connections."""
        other = object.__new__(Client)
        other._attach(self.connection.at(project), self._transport)
        return other

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.connection.url!r}, project={self.connection.project!r})"
