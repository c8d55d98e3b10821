"""The client of a server."""

from pathlib import Path
from types import TracebackType
from typing import Self

from windlass.sdk._async.audit import AsyncAudit
from windlass.sdk._async.base_models import AsyncBaseModels
from windlass.sdk._async.datasets import AsyncDatasets
from windlass.sdk._async.endpoints import AsyncEndpoints
from windlass.sdk._async.erasures import AsyncErasures
from windlass.sdk._async.identity import AsyncServiceAccounts, AsyncSessions, AsyncUsers
from windlass.sdk._async.jobs import AsyncJobs
from windlass.sdk._async.models import AsyncModels
from windlass.sdk._async.platform import AsyncKeys, AsyncPools, AsyncQuotas, AsyncServer
from windlass.sdk._async.projects import AsyncMembers, AsyncProjects
from windlass.sdk._async.transport import AsyncTransport
from windlass.sdk._async.usage import AsyncBudgets, AsyncUsage
from windlass.sdk._protocol import DEFAULT_RETRIES, READ_TIMEOUT
from windlass.sdk.connection import Connection, resolve


class AsyncClient:
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
        self._attach(connection, AsyncTransport(connection, timeout=timeout, retries=retries))

    def _attach(self, connection: Connection, transport: AsyncTransport) -> None:
        self.connection = connection
        self._transport = transport
        project = connection.project
        self.server = AsyncServer(transport, project)
        self.projects = AsyncProjects(transport, project)
        self.members = AsyncMembers(transport, project)
        self.keys = AsyncKeys(transport, project)
        self.sessions = AsyncSessions(transport, project)
        self.users = AsyncUsers(transport, project)
        self.service_accounts = AsyncServiceAccounts(transport, project)
        self.pools = AsyncPools(transport, project)
        self.quotas = AsyncQuotas(transport, project)
        self.datasets = AsyncDatasets(transport, project)
        self.erasures = AsyncErasures(transport, project)
        self.base_models = AsyncBaseModels(transport, project)
        self.jobs = AsyncJobs(transport, project)
        self.models = AsyncModels(transport, project)
        self.endpoints = AsyncEndpoints(transport, project)
        self.usage = AsyncUsage(transport, project)
        self.budgets = AsyncBudgets(transport, project)
        self.audit = AsyncAudit(transport, project)

    def in_project(self, project: str) -> "AsyncClient":
        """Return a client for another project that shares the connections."""
        other = object.__new__(AsyncClient)
        other._attach(self.connection.with_project(project), self._transport)
        return other

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.connection.url!r}, project={self.connection.project!r})"
