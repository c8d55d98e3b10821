# Generated from _async/audit.py by docs/generate_sync_sdk.py; do not edit.
"""The audit log."""

from pathlib import Path
from typing import Literal, Unpack

from windlass.domain.errors import StorageFullError
from windlass.sdk._protocol import Request, path, query_params
from windlass.sdk._sync.io import run_blocking
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.audit_filters import AuditFilters, filter_query
from windlass.sdk.downloads import create_file
from windlass.wire.audit import AuditOut, AuditVerificationOut

_EXPORT_SECONDS = 600.0


class Audit(Resource):
    """The audit log, for platform admins."""

    def list(self, **filters: Unpack[AuditFilters]) -> CursorPage[AuditOut]:
        """List the entries of the audit log, newest first: accepted changes and denied requests."""
        return self._list(path("audit"), AuditOut, filter_query(filters))

    def export(
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
        file = run_blocking(Path(target).absolute)
        draft = file.with_name(f".{file.name}.partial")
        query = {**filter_query(filters), "format": format, "escape_formulas": str(escape_formulas).lower()}
        sink = run_blocking(create_file, draft)
        try:
            request = Request(
                "GET", path("audit", "export"), query=query_params(query), sink=sink, timeout=_EXPORT_SECONDS
            )
            self._transport.send(request)
        except OSError as error:
            raise StorageFullError(f"cannot write {draft}: {error.strerror}", hint="free disk space") from error
        finally:
            sink.close()
        run_blocking(draft.replace, file)
        return file

    def verify(self, *, head: str | None = None) -> AuditVerificationOut:
        """Verify the chain of the audit log, which ends at the first problem; ``rows`` counts all entries.

        ``head`` is a head that was printed earlier and kept elsewhere, as ``1234:HASH``: with it, a chain that was cut
        or written anew is found too.
        """
        rows, after = 0, None
        while True:
            query = {"after": after, "head": head}
            found = self._get(path("audit", "verification"), AuditVerificationOut, query)
            rows += found.rows
            if found.complete:
                return found.model_copy(update={"rows": rows})
            after = found.checked.text
