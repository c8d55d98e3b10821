"""Carries out erasures: searches, creates the version without the rows, deletes the old ones, tracks the descendants.

Level-triggered: each step starts from the stored state, and every change of state is one transaction.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from windlass.domain.datasets import DataRequest, DatasetVersion, Split, VersionState
from windlass.domain.erasures import CleanVersion, Erasure, ErasureDescendant, ErasureState
from windlass.domain.errors import NotFoundError, WindlassError
from windlass.domain.ingest import IngestOptions
from windlass.domain.jobs import UNFINISHED_STATES
from windlass.domain.models import ModelVersion
from windlass.domain.projects import Principal
from windlass.domain.storage_layout import artifacts_prefix, checkpoints_prefix, dataset_version_prefix
from windlass.kit.failpoints import failpoint
from windlass.ports import DataProcessor, ProjectData, ReadProjectData, TaskFailedError, UnitOfWork
from windlass.services.base import SYSTEM, Caller, ProjectService, WorkerDependencies, record_audit
from windlass.services.datasets import discard_version, new_version
from windlass.services.lineage_deletion import served_versions

_MAX_PROCESS_DEATHS = 3
UNCONFIRMED_FOR = timedelta(days=7)
"""How long a search waits for its confirmation. Afterwards it is cancelled, and its search keys are deleted."""
_OPEN = (ErasureState.SEARCHING, ErasureState.FOUND, ErasureState.ERASING, ErasureState.PENDING)


@dataclass(frozen=True)
class Erasing:
    """Advances every open erasure; call ``step`` periodically."""

    deps: WorkerDependencies
    processor: DataProcessor

    def step(self) -> bool:
        """Advance the open erasures; return whether any is left that must be polled.

        Raises:
            WindlassError, OSError: the first error; the other erasures are advanced.
        """
        with self.deps.database.read() as uow:
            erasures = uow.all_projects().erasures.all({"state": _OPEN})
        errors: list[Exception] = []
        actions: dict[ErasureState, Callable[[Erasure], None]] = {
            ErasureState.SEARCHING: self._search,
            ErasureState.FOUND: self._expire,
            ErasureState.ERASING: self._erase,
            ErasureState.PENDING: self._track,
        }
        for erasure in erasures:
            try:
                actions[erasure.state](erasure)
            except (WindlassError, OSError) as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return any(_is_polled(erasure) for erasure in erasures)

    def _search(self, erasure: Erasure) -> None:
        try:
            request, owners = self._search_request(erasure)
        except NotFoundError as error:
            problem = f"files of a version are missing: {error.message}"
            self._save(erasure, {"state": ErasureState.FAILED, "query": None, "problem": problem})
            return
        try:
            result = self.processor.poll(erasure.id)
        except NotFoundError:
            self.processor.start(erasure.id, request)
            return
        except TaskFailedError as error:
            deaths = erasure.process_deaths + 1
            failed = {"state": ErasureState.FAILED, "query": None} if deaths >= _MAX_PROCESS_DEATHS else {}
            update = {"process_deaths": deaths, "problem": f"the search failed: {error}", **failed}
            self._save(erasure, update)
            self.processor.delete(erasure.id)
            return
        if result is None:
            return
        if not result.accepted or len(result.matches) != len(owners):
            problem = "a version could not be read completely"
            self._save(erasure, {"state": ErasureState.FAILED, "query": None, "problem": problem})
        else:
            matches = dict.fromkeys((version.id for version in erasure.versions), 0)
            for owner, number in zip(owners, result.matches, strict=True):
                matches[owner] += number
            versions = tuple(each.model_copy(update={"matches": matches[each.id]}) for each in erasure.versions)
            self._save(erasure, {"state": ErasureState.FOUND, "versions": versions, "problem": ""})
        self.processor.delete(erasure.id)

    def _search_request(self, erasure: Erasure) -> tuple[DataRequest, list[str]]:
        """Return what the search reads, and the version of each input.

        Raises:
            NotFoundError: the dataset was deleted, or files of a version are missing.
        """
        store = self.deps.store
        inputs: list[tuple[str, Split | None]] = []
        owners: list[str] = []
        with self.deps.database.read() as uow:
            repos = uow.project(erasure.project)
            task = repos.datasets.get({"id": erasure.dataset}).task
            for searched in erasure.versions:
                version = repos.dataset_versions.find({"id": searched.id})
                if version is None:
                    continue  # deleted since the request; the confirmation refuses the search
                for split in version.rows:
                    inputs.append((store.uri(store.published_file(version.prefix, f"{split}.jsonl")), split))
                    owners.append(version.id)
        request = DataRequest(
            operation="search",
            task=task,
            options=IngestOptions(),
            inputs=tuple(inputs),
            names=tuple(f"{split}.jsonl" for _, split in inputs),
            erase=erasure.query,
            output=store.uri(dataset_version_prefix(erasure.project, erasure.id)),
        )
        return request, owners

    def _expire(self, erasure: Erasure) -> None:
        if self.deps.clock.now() - erasure.created_at > UNCONFIRMED_FOR:
            problem = f"it was not confirmed within {UNCONFIRMED_FOR.days} days"
            self._save(erasure, {"state": ErasureState.CANCELLED, "query": None, "problem": problem})

    def _erase(self, erasure: Erasure) -> None:
        """Create the version without the rows, if the newest one has any; delete the old ones when it is processed."""
        with self.deps.database.write() as uow:
            repos = uow.project(erasure.project)
            current = repos.erasures.get({"id": erasure.id})
            if current.state is not ErasureState.ERASING:
                return
            if current.new_version is None and (parent := _parent(repos, current)):
                self._create_version(uow, repos, current, parent)
                failpoint("erasure.version.before_commit")
                return
            if current.new_version is not None:
                created = repos.dataset_versions.find({"id": current.new_version.id})
                if created is not None and created.state is VersionState.PROCESSING:
                    return
                if created is None or created.state is VersionState.FAILED:  # the old versions are the only ones
                    problem = created.problem if created is not None else "the version without the rows was deleted"
                    update = {"state": ErasureState.FAILED, "query": None, "problem": problem}
                    repos.erasures.save(current.model_copy(update=update))
                    return
            self._delete_versions(uow, repos, current)
            failpoint("erasure.delete.before_commit")
        failpoint("erasure.delete.committed")

    def _create_version(self, uow: UnitOfWork, repos: ProjectData, erasure: Erasure, parent: DatasetVersion) -> None:
        dataset = repos.datasets.get({"id": erasure.dataset})
        caller = Caller(Principal(user=erasure.confirmed_by or SYSTEM, credential=""))
        service = ProjectService(self.deps, caller, erasure.project)
        options = IngestOptions(allow_overlap=True)  # a version that overlaps is as good as its parent
        version = new_version(service, uow, dataset, "clean", options, parent=parent, erasure=erasure.id)
        created = CleanVersion(id=version.id, number=version.number)
        repos.erasures.save(erasure.model_copy(update={"new_version": created}))

    def _delete_versions(self, uow: UnitOfWork, repos: ProjectData, erasure: Erasure) -> None:
        """Delete the affected versions with the checkpoints of their jobs, and list the descendants."""
        now, affected = self.deps.clock.now(), [version.id for version in erasure.affected]
        jobs = repos.jobs.all({"dataset_version": affected})
        running = {run.job for run in repos.runs.all({"job": [job.id for job in jobs], "ended_at": None})}
        active = [job for job in jobs if job.state in UNFINISHED_STATES or job.id in running]
        if active:  # submitted after the confirmation, or its processes may still write checkpoints
            problem = f"job {active[0].id} trains on rows that are to be erased: cancel it, or wait for its end"
            if problem != erasure.problem:
                repos.erasures.save(erasure.model_copy(update={"problem": problem}))
            return
        descendants = _descendants(repos, erasure, affected)
        checkpoints = 0
        for job in jobs:
            checkpoints += repos.checkpoints.delete({"job": job.id})
            uow.outbox.put("artifact.purge", erasure.project, checkpoints_prefix(job))
            if repos.model_versions.find({"job": job.id}) is None:
                uow.outbox.put("artifact.purge", erasure.project, artifacts_prefix(job))
        for version in repos.dataset_versions.all({"id": affected}):
            discard_version(uow, version)
        update = {
            "state": ErasureState.PENDING,
            "query": None,
            "descendants": descendants,
            "checkpoints_deleted": checkpoints,
            "erased_at": now,
            "problem": "",
        }
        saved = repos.erasures.save(erasure.model_copy(update=update))
        self._audit(uow, erasure.confirmed_by or SYSTEM, "erasure.erase", erasure, saved)

    def _track(self, erasure: Erasure) -> None:
        """Update what became of the descendants and of the files; complete the erasure when all are gone."""
        store, prefix = self.deps.store, dataset_version_prefix
        gone = {
            version.id
            for version in erasure.affected
            if version.files_deleted or next(store.keys(prefix(erasure.project, version.id)), None) is None
        }
        versions = tuple(
            each.model_copy(update={"files_deleted": each.id in gone}) if each.matches else each
            for each in erasure.versions
        )
        with self.deps.database.write() as uow:
            repos = uow.project(erasure.project)
            current = repos.erasures.get({"id": erasure.id})
            now = self.deps.clock.now()
            descendants = _tracked(repos, current, now)
            updated = current.model_copy(update={"versions": versions, "descendants": descendants})
            if not updated.pending_ids and all(each.files_deleted for each in updated.affected):
                updated = updated.model_copy(update={"state": ErasureState.COMPLETE, "completed_at": now})
                self._audit(uow, SYSTEM, "erasure.complete", current, updated)
            if updated != current:
                repos.erasures.save(updated)

    def _audit(self, uow: UnitOfWork, user: str, action: str, before: Erasure, after: Erasure) -> None:
        change = (before, after)
        record_audit(self.deps, uow, user, action, after.id, after.dataset_name, project=after.project, change=change)

    def _save(self, erasure: Erasure, update: Mapping[str, object]) -> None:
        with self.deps.database.write() as uow:
            erasures = uow.project(erasure.project).erasures
            current = erasures.find({"id": erasure.id})
            if current is not None and current.state is erasure.state:
                erasures.save(current.model_copy(update=update))


def _descendants(repos: ReadProjectData, erasure: Erasure, affected: list[str]) -> tuple[ErasureDescendant, ...]:
    """Return the model versions that were trained on the affected versions, and the endpoints that serve one.

    A version from which an affected one was cleaned may have had the rows too, if it was deleted before the search.
    """
    sources = {*affected, *_deleted_origins(repos, affected)}
    objects = [f"dataset-version:{each}" for each in sorted(sources)]
    edges = [edge for edge in repos.lineage.all({"object": objects}) if edge.relation == "trained-on"]
    trained = repos.model_versions.all({"id": [edge.subject.partition(":")[2] for edge in edges]})
    models = {model.id: model.name for model in repos.models.all({"id": [version.model for version in trained]})}
    names = {each.id: f"{erasure.dataset_name}@{each.number}" for each in erasure.versions}
    found = [
        ErasureDescendant(
            kind="model version",
            id=version.id,
            name=f"{models[version.model]}@{version.number}",
            dataset_version=names.get(version.dataset_version, version.dataset_version),
        )
        for version in trained
    ]
    return (*found, *_serving(repos, {version.id for version in trained}))


def _serving(repos: ReadProjectData, versions: set[str]) -> Iterator[ErasureDescendant]:
    for endpoint in repos.endpoints.all():
        if served_versions(repos, endpoint) & versions:
            yield ErasureDescendant(kind="endpoint", id=endpoint.id, name=endpoint.name)


def _is_polled(erasure: Erasure) -> bool:
    """Return whether its next change is not a commit that wakes the loop."""
    if erasure.state is ErasureState.PENDING:
        return not all(version.files_deleted for version in erasure.affected)
    return erasure.state in {ErasureState.SEARCHING, ErasureState.ERASING}


def _parent(repos: ReadProjectData, erasure: Erasure) -> DatasetVersion | None:
    """Return the version to remove the rows from: the newest ready one; None if that has none of them."""
    matches = {version.id: version.matches for version in erasure.versions}
    stored = repos.dataset_versions.all({"id": list(matches)})
    ready = [version for version in stored if version.state is VersionState.READY] or stored
    newest = max(ready, key=lambda version: version.number, default=None)
    return newest if newest is not None and matches[newest.id] else None


def _tracked(repos: ReadProjectData, erasure: Erasure, now: datetime) -> tuple[ErasureDescendant, ...]:
    """Return the descendants with what became of them, and with endpoints that serve one since the last step."""
    flagged = {each.id for each in erasure.descendants if each.kind == "model version"}
    serving = {each.id: each for each in _serving(repos, flagged)}
    tracked = []
    for each in erasure.descendants:
        if each.id in serving:  # also one that had changed to another version, and back
            tracked.append(serving.pop(each.id))
        elif outcome := _outcome(repos, erasure, each):
            tracked.append(each.model_copy(update={**outcome, "resolved_at": now}))
        else:
            tracked.append(each)
    return (*tracked, *serving.values())


def _deleted_origins(repos: ReadProjectData, versions: list[str]) -> set[str]:
    """Return the ids of the versions that others were cleaned from, directly or not, and that do not exist any more."""
    pending, seen = [f"dataset-version:{each}" for each in versions], set[str]()
    while pending:
        edges = [edge for edge in repos.lineage.all({"subject": pending}) if edge.relation == "cleaned-from"]
        pending = sorted({edge.object for edge in edges} - seen)
        seen |= set(pending)
    origins = {node.partition(":")[2] for node in seen}
    return origins - {version.id for version in repos.dataset_versions.all({"id": sorted(origins)})}


def _outcome(repos: ReadProjectData, erasure: Erasure, descendant: ErasureDescendant) -> dict[str, str] | None:
    """Return what became of a descendant since the last step, None when nothing."""
    if descendant.outcome != "pending":
        return None
    if descendant.kind == "endpoint":
        exists = repos.endpoints.find({"id": descendant.id}) is not None
        return {"outcome": "updated" if exists else "deleted"}
    if repos.model_versions.find({"id": descendant.id}) is not None:
        return None
    name, _, number = descendant.name.partition("@")
    newer = _newer_clean_version(repos, erasure, name, int(number))
    if newer is None:
        return {"outcome": "deleted"}
    return {"outcome": "retrained", "replaced_by": f"{name}@{newer.number}"}


def _newer_clean_version(repos: ReadProjectData, erasure: Erasure, name: str, number: int) -> ModelVersion | None:
    """Return the newest version of a model that is newer than ``number`` and was not trained on erased rows."""
    model = repos.models.find({"name": name})
    if model is None:
        return None
    flagged = {each.id for each in erasure.descendants}
    newer = [
        version
        for version in repos.model_versions.all({"model": model.id})
        if version.number > number and version.id not in flagged
    ]
    return max(newer, key=lambda version: version.number, default=None)
