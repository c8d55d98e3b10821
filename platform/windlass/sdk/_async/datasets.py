"""Datasets and their versions; file upload is in ``uploads``."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from windlass.domain.datasets import CleaningStep, Split, VersionState
from windlass.domain.errors import NotFoundError
from windlass.domain.specs import Task
from windlass.sdk._async.pages import AsyncPaginator
from windlass.sdk._async.uploads import AsyncFileUploads
from windlass.sdk._protocol import parse_reference, validate_body
from windlass.sdk.arguments import as_list, to_dict
from windlass.wire.base import DeletionOut
from windlass.wire.datasets import CleanIn, DatasetIn, DatasetOut, DatasetPatch, DatasetReportOut, DatasetVersionOut


class AsyncDatasets(AsyncFileUploads):
    """Datasets of the project."""

    async def create(
        self,
        name: str,
        task: Task | str,
        *,
        description: str = "",
        purposes: Sequence[str] = (),
        consent_until: datetime | None = None,
    ) -> DatasetOut:
        """Create an empty dataset; jobs may only have one of its ``purposes``, and none begins after the consent."""
        body = validate_body(
            DatasetIn,
            name=name,
            task=task,
            description=description,
            purposes=as_list("purposes", purposes),
            consent_until=consent_until,
        )
        return await self._post(self._path("datasets"), DatasetOut, body)

    def list(self) -> AsyncPaginator[DatasetOut]:
        """List the project's datasets."""
        return self._list(self._path("datasets"), DatasetOut)

    async def get(self, name: str) -> DatasetOut:
        """Get a dataset."""
        return await self._get(self._path("datasets", name), DatasetOut)

    async def update(
        self,
        name: str,
        *,
        description: str | None = None,
        purposes: Sequence[str] | None = None,
        consent_until: datetime | Literal["none"] | None = None,
        if_match: int | None = None,
    ) -> DatasetOut:
        """Change what is given. Empty ``purposes`` allow any; ``"none"`` removes the end of the consent."""
        changes: dict[str, object] = {} if description is None else {"description": description}
        if purposes is not None:
            changes["purposes"] = as_list("purposes", purposes)
        if consent_until is not None:
            changes["consent_until"] = None if consent_until == "none" else consent_until
        body = validate_body(DatasetPatch, **changes)
        return await self._patch(self._path("datasets", name), DatasetOut, body, if_match)

    async def delete(
        self, name: str, *, if_match: int | None = None, dry_run: bool = False, cascade: bool = False
    ) -> DeletionOut:
        """Delete a dataset and its versions; ``cascade``: what descends from them too."""
        return await self._delete(self._path("datasets", name), if_match, dry_run=dry_run, cascade=cascade)

    def versions(self, name: str) -> AsyncPaginator[DatasetVersionOut]:
        """List a dataset's versions, newest first."""
        return self._list(self._path("datasets", name, "versions"), DatasetVersionOut)

    async def version(self, reference: str) -> DatasetVersionOut:
        """Get a version: ``name@number``, or ``name`` for the newest version in any state."""
        name, number = parse_reference(reference)
        if number is None:
            return await self._newest_version(name)
        return await self._get(self._path("datasets", name, "versions", str(number)), DatasetVersionOut)

    async def delete_version(
        self, reference: str, *, if_match: int | None = None, dry_run: bool = False, cascade: bool = False
    ) -> DeletionOut:
        """Delete a version, given as ``name@number``; ``cascade``: what descends from it too."""
        return await self._delete(await self._version_path(reference), if_match, dry_run=dry_run, cascade=cascade)

    async def report(self, reference: str) -> DatasetReportOut:
        """Get the validation report of a version; of the newest version without a number."""
        return await self._get(f"{await self._version_path(reference)}/report", DatasetReportOut)

    async def report_html(self, reference: str) -> str:
        """Get the validation report as HTML."""
        return await self._get_html(f"{await self._version_path(reference)}/report")

    def rows(
        self,
        reference: str,
        *,
        split: Split | str = Split.TRAIN,
        label: str | None = None,
        text: str | None = None,
    ) -> AsyncPaginator[dict[str, Any]]:
        """List the rows of a split of a version, given as ``name@number``.

        ``label`` selects the rows with exactly this label, ``text`` those with a value that contains it, in any case.
        """
        name, number = parse_reference(reference)
        if number is None:
            raise NotFoundError(f"{reference!r} has no version number", hint=f"use {name}@NUMBER")
        url = self._path("datasets", name, "versions", str(number), "rows")
        return self._list(url, dict[str, Any], {"split": Split(split).value, "label": label, "text": text})

    async def clean(
        self,
        reference: str,
        steps: Sequence[CleaningStep | Mapping[str, Any]],
        *,
        allow_overlap: bool = False,
    ) -> DatasetVersionOut:
        """Create a version by applying cleaning steps, in order, to a version (default: the newest ready version)."""
        plain = [to_dict(step) for step in as_list("steps", steps)]
        body = validate_body(CleanIn, steps=plain, allow_overlap=allow_overlap)
        name, number = parse_reference(reference)
        if number is None:
            number = (await self.get(name)).latest
        if number is None:
            raise NotFoundError(f"dataset {name} has no ready version", hint=f"see `windlass dataset report {name}`")
        url = self._path("datasets", name, "versions", str(number)) + ":clean"
        return await self._post(url, DatasetVersionOut, body)

    async def wait(self, reference: str, *, timeout: float | None = None) -> DatasetVersionOut:
        """Wait until a version has been processed: see ``state``.

        Raises:
            WaitTimeoutError: after ``timeout`` seconds.
        """
        version = await self.version(reference)
        return await self._poll(
            lambda: self.version(version.ref),
            lambda version: version.state is not VersionState.PROCESSING,
            timeout,
            f"dataset version {version.ref}",
        )

    async def _version_path(self, reference: str) -> str:
        name, number = parse_reference(reference)
        if number is None:
            number = (await self._newest_version(name)).number
        return self._path("datasets", name, "versions", str(number))

    async def _newest_version(self, name: str) -> DatasetVersionOut:
        async for version in self.versions(name):
            return version
        raise NotFoundError(
            f"dataset {name} has no version", hint=f"upload files with `windlass dataset upload {name} FILE`"
        )
