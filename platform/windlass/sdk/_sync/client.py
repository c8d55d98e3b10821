# Generated from _async/client.py by docs/generate_sync_sdk.py; do not edit.
"""The client of a server."""

from pathlib import Path
from types import TracebackType
from typing import Self

from windlass.sdk._protocol import DEFAULT_RETRIES, READ_TIMEOUT
from windlass.sdk._sync.audit import Audit
from windlass.sdk._sync.base_models import BaseModels
from windlass.sdk._sync.datasets import Datasets
from windlass.sdk._sync.endpoints import Endpoints
from windlass.sdk._sync.erasures import Erasures
from windlass.sdk._sync.identity import ServiceAccounts, Sessions, Users
from windlass.sdk._sync.jobs import Jobs
from windlass.sdk._sync.models import Models
from windlass.sdk._sync.platform import Keys, Pools, Quotas, Server
from windlass.sdk._sync.projects import Members, Projects
from windlass.sdk._sync.transport import Transport
from windlass.sdk._sync.usage import Budgets, Usage
from windlass.sdk.connection import Connection, resolve


class Client:
    """A project on a Windlass server.

    Server, key and project come from the arguments, the environment (``WINDLASS_URL``, ``WINDLASS_KEY``,
    ``WINDLASS_PROJECT``), the config file, or the server on this machine, in this order.

    Args:
        url: the server's URL, such as ``http://127.0.0.1:8741``.
        key: the API key.
        project: the project of all requests; default: ``default``.
        key_file: a file that contains the key.
        home: the data directory of the server on this machine.
        timeout: idle seconds after which a request fails.
        retries: maximum number of retries of a retryable request.

    Raises:
        UnavailableError: no server URL is configured.
        UnauthenticatedError: no API key is configured.
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
        project = connection.project
        self.server = Server(transport, project)
        self.projects = Projects(transport, project)
        self.members = Members(transport, project)
        self.keys = Keys(transport, project)
        self.sessions = Sessions(transport, project)
        self.users = Users(transport, project)
        self.service_accounts = ServiceAccounts(transport, project)
        self.pools = Pools(transport, project)
        self.quotas = Quotas(transport, project)
        self.datasets = Datasets(transport, project)
        self.erasures = Erasures(transport, project)
        self.base_models = BaseModels(transport, project)
        self.jobs = Jobs(transport, project)
        self.models = Models(transport, project)
        self.endpoints = Endpoints(transport, project)
        self.usage = Usage(transport, project)
        self.budgets = Budgets(transport, project)
        self.audit = Audit(transport, project)

    def in_project(self, project: str) -> "Client":
        """Return a client for another project that shares the connections."""
        other = object.__new__(Client)
        other._attach(self.connection.with_project(project), self._transport)
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
