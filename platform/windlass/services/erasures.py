"""Erasures of a project: search, preview, confirm; the worker carries them out (``erasing``)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from windlass.domain.datasets import DatasetVersion, VersionState
from windlass.domain.erasures import (
    SEARCHED_STATES,
    Erasure,
    ErasureQuery,
    ErasureState,
    SearchedVersion,
    certificate_of,
)
from windlass.domain.errors import ConflictError
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.ports import ReadProjectData
from windlass.services.base import ProjectService
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Erasures(ProjectService):
    """Start, confirm, cancel and read the erasures of one project."""

    def start(self, dataset_name: str, query: ErasureQuery) -> Erasure:
        """Search all versions of a dataset for the rows of a data subject; nothing is changed before ``confirm``.

        Raises:
            ConflictError: a version is being processed, none has rows, or another erasure of the dataset is open.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            dataset = repos.datasets.get({"name": dataset_name})
            other = repos.erasures.find({"dataset": dataset.id, "state": SEARCHED_STATES})
            if other is not None:
                raise ConflictError(
                    f"erasure {other.id} of dataset {dataset_name} is {other.state}",
                    hint=f"confirm it or cancel it first: `windlass erasure cancel {other.id}`",
                )
            versions = repos.dataset_versions.all({"dataset": dataset.id})
            _require_processed(dataset_name, versions)
            searched = tuple(_searched(version) for version in versions if version.rows)
            if not searched:
                raise ConflictError(f"no version of dataset {dataset_name} has rows", hint="there is nothing to erase")
            erasure = Erasure(
                id=self.deps.new_id("ers"),
                project=self.project,
                dataset=dataset.id,
                dataset_name=dataset_name,
                state=ErasureState.SEARCHING,
                query=query,
                key_hashes=tuple(self.deps.hasher.erasure_key(self.project, key) for key in query.search_keys()),
                versions=searched,
                created_by=self.caller.principal.user,
                created_at=self.deps.clock.now(),
            )
            repos.erasures.add(erasure)
            self.audit(uow, "erasure.search", erasure.id, dataset_name, self.project, after=erasure)
        return erasure

    def page(self, limit: int, after: str | None) -> list[Erasure]:
        """List erasures, newest first."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).erasures.page(limit, after, newest_first=True)

    def get(self, erasure_id: str) -> Erasure:
        """Return an erasure."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).erasures.get({"id": erasure_id})

    def certificate(self, erasure_id: str) -> dict[str, Any]:
        """Return the certificate of an erasure.

        Raises:
            ConflictError: its rows are not erased.
        """
        erasure = self.get(erasure_id)
        if erasure.erased_at is None:
            raise ConflictError(
                f"erasure {erasure_id} is {erasure.state}: it has no certificate",
                hint=f"confirm it: `windlass erasure confirm {erasure_id}`",
            )
        return certificate_of(erasure)

    def confirm(self, erasure_id: str, version: int) -> Erasure:
        """Erase the rows that were found; the old versions cannot be restored.

        Raises:
            PreconditionFailedError: it has changed since it was read.
            ConflictError: nothing was found, a version was added since the search, or an active job trains on one.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            erasure = repos.erasures.get({"id": erasure_id})
            check_version("erasure", erasure.version, version)
            if erasure.state is not ErasureState.FOUND:
                raise ConflictError(f"erasure {erasure_id} is {erasure.state}", hint="confirm a found one")
            if not erasure.affected:
                raise ConflictError(f"erasure {erasure_id} found no rows", hint="search with another text")
            stored = repos.dataset_versions.all({"dataset": erasure.dataset})
            _require_processed(erasure.dataset_name, stored)
            if {each.id for each in stored if each.rows} != {each.id for each in erasure.versions}:
                raise ConflictError(
                    f"the versions of {erasure.dataset_name} have changed since they were searched",
                    hint="cancel this erasure and search again",
                )
            affected = [each.id for each in erasure.affected]
            _require_unused(repos, erasure, affected)
            update = {
                "state": ErasureState.ERASING,
                "confirmed_by": self.caller.principal.user,
                "confirmed_at": self.deps.clock.now(),
                "problem": "",
            }
            saved = repos.erasures.save(erasure.model_copy(update=update))
            name = erasure.dataset_name
            self.audit(uow, "erasure.confirm", erasure.id, name, self.project, before=erasure, after=saved)
        return saved

    def cancel(self, erasure_id: str) -> Erasure:
        """Cancel an erasure that has not been confirmed; its search keys are deleted.

        Raises:
            ConflictError: it is confirmed or has ended.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            erasure = repos.erasures.get({"id": erasure_id})
            if erasure.state not in {ErasureState.SEARCHING, ErasureState.FOUND}:
                raise ConflictError(f"erasure {erasure_id} is {erasure.state}", hint="it cannot be cancelled any more")
            update = {"state": ErasureState.CANCELLED, "query": None}
            saved = repos.erasures.save(erasure.model_copy(update=update))
            uow.outbox.put("dataset.purge", self.project, erasure.id)  # ends the search
            name = erasure.dataset_name
            self.audit(uow, "erasure.cancel", erasure.id, name, self.project, before=erasure, after=saved)
        return saved

    def pending_by_descendant(self) -> Mapping[str, list[str]]:
        """Return the ids of the erasures that wait for a model version or an endpoint, by the id of that."""
        with self.deps.database.read() as uow:
            pending = uow.project(self.project).erasures.all({"state": ErasureState.PENDING})
        flags: dict[str, list[str]] = {}
        for erasure in pending:
            for key in sorted(erasure.pending_ids):
                flags.setdefault(key, []).append(erasure.id)
        return flags

    def pending_by_model(self) -> Mapping[str, list[str]]:
        """Return the ids of the erasures that wait for a version of a model, by the id of the model."""
        flags = self.pending_by_descendant()
        by_model: dict[str, set[str]] = {}
        if flags:
            with self.deps.database.read() as uow:
                for version in uow.project(self.project).model_versions.all({"id": list(flags)}):
                    by_model.setdefault(version.model, set()).update(flags[version.id])
        return {model: sorted(erasures) for model, erasures in by_model.items()}


def _searched(version: DatasetVersion) -> SearchedVersion:
    return SearchedVersion(
        id=version.id,
        number=version.number,
        rows=sum(version.rows.values()),
        created_at=version.created_at,
        created_by=version.created_by,
    )


def _require_processed(name: str, versions: Iterable[DatasetVersion]) -> None:
    for version in versions:
        if version.state is VersionState.PROCESSING:
            raise ConflictError(f"{name}@{version.number} is being processed", hint="wait for it, or delete it")


def _require_unused(repos: ReadProjectData, erasure: Erasure, versions: Collection[str]) -> None:
    users = repos.jobs.all({"dataset_version": list(versions), "state": UNFINISHED_STATES})
    if users:
        raise ConflictError(
            f"job {users[0].id} trains on rows that are to be erased from {erasure.dataset_name}",
            hint=f"cancel it: `windlass job cancel {users[0].id}`, or wait for its end",
            context={"jobs": [job.id for job in users]},
        )
