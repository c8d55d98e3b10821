"""The audit log."""

from pathlib import Path
from typing import Literal, Unpack

from windlass.domain.errors import StorageFullError
from windlass.sdk._async.io import run_blocking
from windlass.sdk._async.pages import AsyncPaginator
from windlass.sdk._async.resource import AsyncResource
from windlass.sdk._protocol import Request, path, query_params
from windlass.sdk.audit_filters import AuditFilters, filter_query
from windlass.sdk.downloads import create_file
from windlass.wire.audit import AuditOut, AuditVerificationOut

_EXPORT_SECONDS = 600.0


class AsyncAudit(AsyncResource):
    """The audit log, for platform admins."""

    def list(self, **filters: Unpack[AuditFilters]) -> AsyncPaginator[AuditOut]:
        """List the entries of the audit log, newest first: accepted changes and denied requests."""
        return self._list(path("audit"), AuditOut, filter_query(filters))

    async def export(
        self,
        target: str | Path,
        *,
        format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002 - the name of the parameter of the API
        escape_formulas: bool = True,
        **filters: Unpack[AuditFilters],
    ) -> Path:
        """Write the entries into the file ``target``, oldest first. It is replaced when all of them have arrived.

        ``escape_formulas`` puts an apostrophe before text of a CSV file that a spreadsheet would run as a formula.

        Raises:
            StorageFullError: the disk is full.
        """
        file = await run_blocking(Path(target).absolute)
        draft = file.with_name(f".{file.name}.partial")
        query = {**filter_query(filters), "format": format, "escape_formulas": str(escape_formulas).lower()}
        sink = await run_blocking(create_file, draft)
        try:
            request = Request(
                "GET", path("audit", "export"), query=query_params(query), sink=sink, timeout=_EXPORT_SECONDS
            )
            await self._transport.send(request)
        except OSError as error:
            raise StorageFullError(f"cannot write {draft}: {error.strerror}", hint="free disk space") from error
        finally:
            sink.close()
        await run_blocking(draft.replace, file)
        return file

    async def verify(self, *, head: str | None = None) -> AuditVerificationOut:
        """Verify the chain of the audit log, which ends at the first problem; ``rows`` counts all entries.

        ``head`` is a head that was printed earlier and kept elsewhere, as ``1234:HASH``: with it, a chain that was cut
        or written anew is found too.
        """
        rows, after = 0, None
        while True:
            query = {"after": after, "head": head}
            found = await self._get(path("audit", "verification"), AuditVerificationOut, query)
            rows += found.rows
            if found.complete:
                return found.model_copy(update={"rows": rows})
            after = found.checked.text
