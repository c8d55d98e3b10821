"""The asynchronous client."""

from pathlib import Path
from types import TracebackType
from typing import Self

from windlass.sdk._core import DEFAULT_RETRIES, READ_TIMEOUT, Scope
from windlass.sdk._transport import AsyncTransport
from windlass.sdk.connection import Connection, resolve
from windlass.sdk.resources.base_models import AsyncBaseModels
from windlass.sdk.resources.datasets import AsyncDatasets
from windlass.sdk.resources.endpoints import AsyncEndpoints
from windlass.sdk.resources.job_handles import AsyncJobs
from windlass.sdk.resources.models import AsyncModels
from windlass.sdk.resources.platform import AsyncAudit, AsyncKeys, AsyncPools, AsyncQuotas, AsyncServer, AsyncUsage
from windlass.sdk.resources.projects import AsyncMembers, AsyncProjects


class AsyncClient:
    """A project on a Windlass server, for asyncio; arguments and sources are those of ``Client``.

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
        self._attach(connection, AsyncTransport(connection, timeout=timeout, retries=retries))

    def _attach(self, connection: Connection, transport: AsyncTransport) -> None:
        self.connection = connection
        self._transport = transport
        scope = Scope(connection.project)
        self.server = AsyncServer(transport, scope)
        self.projects = AsyncProjects(transport, scope)
        self.members = AsyncMembers(transport, scope)
        self.keys = AsyncKeys(transport, scope)
        self.pools = AsyncPools(transport, scope)
        self.quotas = AsyncQuotas(transport, scope)
        self.datasets = AsyncDatasets(transport, scope)
        self.base_models = AsyncBaseModels(transport, scope)
        self.jobs = AsyncJobs(transport, scope)
        self.models = AsyncModels(transport, scope)
        self.endpoints = AsyncEndpoints(transport, scope)
        self.usage = AsyncUsage(transport, scope)
        self.audit = AsyncAudit(transport, scope)

    def in_project(self, project: str) -> "AsyncClient":
        """Return a client for another project that shares this one's connections."""
        other = object.__new__(AsyncClient)
        other._attach(self.connection.at(project), self._transport)
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
