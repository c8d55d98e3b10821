"""Cascading deletions: an object with all that descends from it, endpoints first.

The request stores the deletion and stops the endpoints in one transaction. When their rows are gone, one other
transaction deletes everything else. A crash between the two loses nothing: the stored deletion is continued.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from windlass.domain.capabilities import Capability
from windlass.domain.datasets import Dataset, DatasetVersion
from windlass.domain.errors import ConflictError, WindlassError
from windlass.domain.models import Model, ModelVersion
from windlass.domain.projects import Principal, Project
from windlass.domain.records import CascadeDeletion, Deletion, DescendantEffect
from windlass.domain.storage_layout import dataset_version_prefix, job_prefix, project_prefix
from windlass.kit.failpoints import failpoint
from windlass.ports import ReadProjectData, ReadUnitOfWork, UnitOfWork
from windlass.services.base import (
    Caller,
    ProjectService,
    ServiceDependencies,
    WorkerDependencies,
    record_audit,
    stored_bytes,
)
from windlass.services.lineage_deletion import LineageTree, RootKind, discard_tree, lineage_tree, stop_endpoints
from windlass.services.models import find_version
from windlass.services.projects import check_version

DeletedRoot = Dataset | DatasetVersion | Model | ModelVersion | Project


@dataclass(frozen=True)
class CascadeDeletions(ProjectService):
    """Deletes objects of one project, or the project, with their descendants."""

    def delete_dataset(self, name: str, version: int, *, dry_run: bool) -> Deletion:
        """Delete a dataset with all versions and what was created from them. Raises as ``_delete``."""

        def find(uow: ReadUnitOfWork) -> Dataset:
            dataset = uow.project(self.project).datasets.get({"name": name})
            check_version("dataset", dataset.version, version)
            return dataset

        return self._delete("dataset", name, find, dry_run=dry_run)

    def delete_dataset_version(self, name: str, number: int, version: int, *, dry_run: bool) -> Deletion:
        """Delete a dataset version and what was created from it. Raises as ``_delete``."""

        def find(uow: ReadUnitOfWork) -> DatasetVersion:
            repos = uow.project(self.project)
            dataset = repos.datasets.get({"name": name})
            found = repos.dataset_versions.get({"dataset": dataset.id, "number": number})
            check_version("dataset version", found.version, version)
            return found

        return self._delete("dataset version", f"{name}@{number}", find, dry_run=dry_run)

    def delete_model(self, name: str, version: int, *, dry_run: bool) -> Deletion:
        """Delete a model with all versions, and the endpoints that serve one. Raises as ``_delete``."""

        def find(uow: ReadUnitOfWork) -> Model:
            model = uow.project(self.project).models.get({"name": name})
            check_version("model", model.version, version)
            return model

        return self._delete("model", name, find, dry_run=dry_run)

    def delete_model_version(self, name: str, number: int, *, dry_run: bool) -> Deletion:
        """Delete a model version and the endpoints that serve it. Raises as ``_delete``."""

        def find(uow: ReadUnitOfWork) -> ModelVersion:
            return find_version(uow.project(self.project), name, number)

        return self._delete("model version", f"{name}@{number}", find, dry_run=dry_run)

    def delete_project(self, name: str, version: int, *, dry_run: bool) -> Deletion:
        """Delete the project with its endpoints. Raises as ``_delete``."""
        self.deps.require(Capability.PROJECT_WRITES)

        def find(uow: ReadUnitOfWork) -> Project:
            project = uow.projects.get({"id": self.project})
            check_version("project", project.version, version)
            return project

        return self._delete("project", name, find, dry_run=dry_run)

    def _delete(
        self, kind: RootKind, name: str, find: Callable[[ReadUnitOfWork], DeletedRoot], *, dry_run: bool
    ) -> Deletion:
        """Delete an object and its descendants; ``dry_run`` only lists them.

        The endpoints are stopped at once. The rest is deleted when they have stopped, in one transaction.

        Raises:
            NotFoundError: there is no such object.
            PreconditionFailedError: it has changed since it was read.
            ConflictError: a descendant blocks the deletion; ``context`` lists all that do.
        """
        with self.deps.database.read() as uow:
            root = find(uow)
            tree = lineage_tree(uow, self.project, kind, root.id)
        deletion = self._deletion(tree, kind, root.id, name)
        if dry_run:
            return deletion
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            root = find(uow)
            tree = lineage_tree(uow, self.project, kind, root.id)
            _require_unblocked(name, tree)
            stored = repos.cascade_deletions.find({"kind": kind, "subject": root.id})
            if stored is None:
                stored = CascadeDeletion(
                    id=self.deps.new_id("del"),
                    project=self.project,
                    kind=kind,
                    subject=root.id,
                    name=name,
                    created_by=self.caller.principal.user,
                    request_id=self.caller.request_id,
                    created_at=self.deps.clock.now(),
                )
                repos.cascade_deletions.add(stored)
                self.audit(uow, _action(kind), root.id, name, self.project, before=root)
            _advance(self.deps, uow, self.caller, stored, tree)
            failpoint("cascade.before_commit")
        failpoint("cascade.committed")
        return deletion

    def _deletion(self, tree: LineageTree, kind: RootKind, subject: str, name: str) -> Deletion:
        deleted = Counter(each.kind for each in tree.descendants if each.effect is DescendantEffect.DELETED)
        prefixes = [dataset_version_prefix(self.project, data.id) for data in tree.dataset_versions]
        jobs = {job.id for job in tree.jobs}
        prefixes += [job_prefix(self.project, job) for job in sorted(jobs)]
        prefixes += [version.prefix for version in tree.model_versions if version.job not in jobs]
        if kind == "project":
            prefixes = [project_prefix(subject)]
        return Deletion(
            kind=kind,
            id=subject,
            name=name,
            contains=dict(deleted),
            stored_bytes=stored_bytes(self.deps.store, *prefixes),
            descendants=tree.descendants,
        )


def _require_unblocked(name: str, tree: LineageTree) -> None:
    if tree.blockers:
        first = tree.blockers[0]
        raise ConflictError(
            f"{first.kind} {first.name} prevents the deletion of {name}: {first.why}",
            hint="`--cascade --dry-run` lists everything that prevents it",
            context={"blockers": [f"{each.kind} {each.id}" for each in tree.blockers]},
        )


def _action(kind: str) -> str:
    return f"{kind.replace(' ', '-')}.delete"


def _advance(
    deps: ServiceDependencies, uow: UnitOfWork, caller: Caller, deletion: CascadeDeletion, tree: LineageTree
) -> None:
    """Stop the endpoints of a tree, or delete it when it has none."""
    now = deps.clock.now()
    deleted = stop_endpoints(uow, tree, now) if tree.endpoints else discard_tree(uow, deletion, tree, now)
    objects = {row.id: row for row in tree.rows}
    for each in deleted:
        change = (objects[each.id], None)
        record_audit(deps, uow, caller, _action(each.kind), each.id, each.name, project=deletion.project, change=change)


@dataclass(frozen=True)
class CascadeContinuation:
    """Continues the stored deletions; call ``step`` periodically."""

    deps: WorkerDependencies

    def step(self) -> bool:
        """Continue every deletion whose endpoints have stopped; return whether any is left.

        Raises:
            WindlassError: the first error; the other deletions are continued.
        """
        with self.deps.database.read() as uow:
            pending = uow.all_projects().cascade_deletions.all()
        errors: list[WindlassError] = []
        for deletion in pending:
            try:
                self._continue(deletion.project, deletion.id)
            except WindlassError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return bool(pending)

    def _continue(self, project: str, deletion_id: str) -> None:
        with self.deps.database.write() as uow:
            repos = uow.project(project)
            deletion = repos.cascade_deletions.find({"id": deletion_id})
            if deletion is None:
                return
            if not _exists(uow, repos, deletion):
                repos.cascade_deletions.delete({"id": deletion_id})  # it was deleted without its descendants
                return
            tree = lineage_tree(uow, project, _root_kind(deletion.kind), deletion.subject)
            problem = "" if not tree.blockers else f"{tree.blockers[0].kind} {tree.blockers[0].name} prevents it"
            if problem != deletion.problem:
                deletion = repos.cascade_deletions.save(deletion.model_copy(update={"problem": problem}))
            if not problem:  # otherwise an object was created after the request: it waits for that
                caller = Caller(Principal(user=deletion.created_by, credential=""), deletion.request_id)
                _advance(self.deps, uow, caller, deletion, tree)
                failpoint("cascade.continue.before_commit")


def _root_kind(kind: str) -> RootKind:
    kinds: dict[str, RootKind] = {
        "dataset": "dataset",
        "dataset version": "dataset version",
        "model": "model",
        "model version": "model version",
        "project": "project",
    }
    return kinds[kind]


def _exists(uow: ReadUnitOfWork, repos: ReadProjectData, deletion: CascadeDeletion) -> bool:
    match _root_kind(deletion.kind):
        case "dataset":
            found: object = repos.datasets.find({"id": deletion.subject})
        case "dataset version":
            found = repos.dataset_versions.find({"id": deletion.subject})
        case "model":
            found = repos.models.find({"id": deletion.subject})
        case "model version":
            found = repos.model_versions.find({"id": deletion.subject})
        case "project":
            found = uow.projects.find({"id": deletion.subject})
    return found is not None
