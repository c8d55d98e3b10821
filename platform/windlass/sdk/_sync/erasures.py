# Generated from _async/erasures.py by docs/generate_sync_sdk.py; do not edit.
"""Erasures of data subjects."""

from collections.abc import Mapping, Sequence
from typing import Any

from windlass.domain.erasures import ErasureState
from windlass.sdk._protocol import Request, decode_as, validate_body
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.arguments import as_list
from windlass.wire.erasures import ErasureCertificateOut, ErasureIn, ErasureOut


class Erasures(Resource):
    """Erasures of data subjects from the datasets of the project."""

    def start(
        self, dataset: str, *, contains: Sequence[str] = (), rows: Sequence[Mapping[str, str]] = ()
    ) -> ErasureOut:
        """Search all versions of a dataset for rows with one of the texts, or with all values of one of ``rows``.

        Nothing is erased before ``confirm``.
        """
        plain = [dict(row) for row in as_list("rows", rows)]
        body = validate_body(ErasureIn, contains=as_list("contains", contains), rows=plain)
        return self._post(self._path("datasets", dataset) + ":erase", ErasureOut, body)

    def list(self) -> CursorPage[ErasureOut]:
        """List the erasures of the project, newest first."""
        return self._list(self._path("erasures"), ErasureOut)

    def get(self, erasure: str) -> ErasureOut:
        """Get an erasure."""
        return self._get(self._path("erasures", erasure), ErasureOut)

    def confirm(self, erasure: str, *, if_match: int) -> ErasureOut:
        """Erase the rows that were found. ``if_match`` is the version of the erasure whose counts were reviewed."""
        url = self._path("erasures", erasure) + ":confirm"
        request = Request("POST", url, headers={"If-Match": f'"{if_match}"'})
        return decode_as(ErasureOut)(self._transport.send(request))

    def cancel(self, erasure: str) -> ErasureOut:
        """Cancel an erasure that has not been confirmed."""
        return self._post(self._path("erasures", erasure) + ":cancel", ErasureOut)

    def certificate(self, erasure: str) -> dict[str, Any]:
        """Get the certificate. It changes until the last model and endpoint that were trained on the rows are gone."""
        url = self._path("erasures", erasure, "certificate")
        return (self._get(url, ErasureCertificateOut)).certificate

    def wait(self, erasure: str, *, timeout: float | None = None) -> ErasureOut:
        """Wait until the search, or the erasure of the rows, has ended: see ``state``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds.
        """
        busy = {ErasureState.SEARCHING, ErasureState.ERASING}
        return self._poll(
            lambda: self.get(erasure), lambda found: found.state not in busy, timeout, f"erasure {erasure}"
        )
