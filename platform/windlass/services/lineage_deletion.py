"""Finds everything that descends from an object by lineage, and deletes it with the object."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from windlass.domain.datasets import DatasetVersion, VersionState
from windlass.domain.endpoints import Endpoint, EndpointState
from windlass.domain.errors import InvalidError
from windlass.domain.jobs import Job
from windlass.domain.models import Model, ModelVersion
from windlass.domain.records import CascadeDeletion, Descendant, DescendantEffect, Tombstone
from windlass.ports import ReadProjectData, ReadUnitOfWork, UnitOfWork
from windlass.services.datasets import discard_dataset, discard_version
from windlass.services.endpoints import resolve
from windlass.services.projects import discard_project

RootKind = Literal["dataset", "dataset version", "model", "model version", "project"]
_DELETED, _BLOCKS, _STAYS = DescendantEffect.DELETED, DescendantEffect.BLOCKS, DescendantEffect.STAYS


@dataclass
class LineageTree:
    """An object with what descends from it."""

    kind: RootKind
    root: str
    """Id of the object."""
    endpoints: list[Endpoint] = field(default_factory=list)
    model_versions: list[ModelVersion] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    dataset_versions: list[DatasetVersion] = field(default_factory=list)
    descendants: tuple[Descendant, ...] = ()
    """All of them but the object, in the order of the deletion, then what stays."""

    @property
    def rows(self) -> tuple[Endpoint | ModelVersion | Job | DatasetVersion, ...]:
        """All objects that are deleted with it, and itself if it is a version."""
        return (*self.endpoints, *self.model_versions, *self.jobs, *self.dataset_versions)

    @property
    def blockers(self) -> tuple[Descendant, ...]:
        """What prevents the deletion."""
        return tuple(each for each in self.descendants if each.effect is _BLOCKS)


def lineage_tree(uow: ReadUnitOfWork, project: str, kind: RootKind, root: str) -> LineageTree:
    """Return what descends from an object.

    An endpoint that also serves a model of other data blocks the deletion, and so does a job that has not ended.
    """
    repos = uow.project(project)
    tree = LineageTree(kind, root)
    if kind == "project":
        tree.endpoints, tree.jobs = repos.endpoints.all(), repos.jobs.all()
        models = {model.id: model for model in repos.models.all()}
        tree.model_versions = repos.model_versions.all({"model": list(models)})
        tree.dataset_versions = repos.dataset_versions.all()
    else:
        _follow_lineage(repos, tree)
        models = {model.id: model for model in repos.models.all()}
        doomed = {version.id for version in tree.model_versions}
        tree.endpoints = [each for each in repos.endpoints.all() if served_versions(repos, each) & doomed]
    tree.descendants = tuple(_described(uow, repos, tree, models))
    return tree


def _follow_lineage(repos: ReadProjectData, tree: LineageTree) -> None:
    """Fill in the versions and jobs that were created from the object, directly or not."""
    match tree.kind:
        case "dataset":
            pending = [f"dataset-version:{each.id}" for each in repos.dataset_versions.all({"dataset": tree.root})]
        case "model":
            pending = [f"model-version:{each.id}" for each in repos.model_versions.all({"model": tree.root})]
        case _:
            pending = [f"{tree.kind.replace(' ', '-')}:{tree.root}"]
    nodes = set(pending)
    while pending:
        created = {edge.subject for edge in repos.lineage.all({"object": pending})} - nodes
        nodes |= created
        pending = sorted(created)
    ids: dict[str, list[str]] = {}
    for node in sorted(nodes):
        kind, _, key = node.partition(":")
        ids.setdefault(kind, []).append(key)
    # a deleted object has no row, but its edges lead to what was created from it
    tree.dataset_versions = repos.dataset_versions.all({"id": ids.get("dataset-version", [])})
    tree.jobs = repos.jobs.all({"id": ids.get("job", [])})
    tree.model_versions = repos.model_versions.all({"id": ids.get("model-version", [])})


def served_versions(repos: ReadProjectData, endpoint: Endpoint) -> set[str]:
    """Return the ids of the model versions that an endpoint serves or is to serve."""
    served = {target.model_version for target in endpoint.live}
    for target in endpoint.spec.traffic:
        try:
            served.add(resolve(repos, target).id)
        except InvalidError:
            continue  # it was deleted, or its alias was
    return served


def _described(
    uow: ReadUnitOfWork, repos: ReadProjectData, tree: LineageTree, models: dict[str, Model]
) -> Iterable[Descendant]:
    doomed = {version.id for version in tree.model_versions}
    for endpoint in tree.endpoints:
        others = served_versions(repos, endpoint) - doomed
        effect, why = (_BLOCKS, "it also serves a model of other data: remove that first") if others else (_DELETED, "")
        yield Descendant(kind="endpoint", id=endpoint.id, name=endpoint.name, effect=effect, why=why)
    for version in tree.model_versions:
        if version.id != tree.root:
            name = f"{models[version.model].name}@{version.number}"
            yield Descendant(kind="model version", id=version.id, name=name, effect=_DELETED)
    active = {run.job for run in repos.runs.all({"job": [job.id for job in tree.jobs], "ended_at": None})}
    for job in tree.jobs:
        ended = job.state.terminal and job.id not in active
        why = "" if ended else f"it is {job.state}: cancel it, or wait for its end"
        yield Descendant(kind="job", id=job.id, name=job.name or job.id, effect=_DELETED if ended else _BLOCKS, why=why)
    for job in tree.jobs:
        for checkpoint in repos.checkpoints.all({"job": job.id}):
            name = f"{job.id}, step {checkpoint.step}"
            yield Descendant(kind="checkpoint", id=f"{job.id}/{checkpoint.step}", name=name, effect=_DELETED)
    names = {each.id: each.name for each in repos.datasets.all({"id": [v.dataset for v in tree.dataset_versions]})}
    for data in tree.dataset_versions:
        if data.id != tree.root:
            is_new = data.state is VersionState.PROCESSING and tree.kind == "dataset version"
            yield Descendant(
                kind="dataset version",
                id=data.id,
                name=f"{names[data.dataset]}@{data.number}",
                effect=_BLOCKS if is_new else _DELETED,
                why="it is being created: wait for it, or delete it" if is_new else "",
            )
    if tree.kind != "project":
        yield from _staying(uow, repos, tree, models)


def _staying(
    uow: ReadUnitOfWork, repos: ReadProjectData, tree: LineageTree, models: dict[str, Model]
) -> Iterable[Descendant]:
    """Yield what is beside the deleted objects: models with other versions, and base models."""
    doomed = {version.id for version in tree.model_versions}
    for key in sorted({version.model for version in tree.model_versions} - {tree.root}):
        kept = [each for each in repos.model_versions.all({"model": key}) if each.id not in doomed]
        why = "its other versions were trained on other data" if kept else "it has no version left"
        yield Descendant(kind="model", id=key, name=models[key].name, effect=_STAYS, why=why)
    if tree.kind == "dataset version":
        data = next((each for each in tree.dataset_versions if each.id == tree.root), None)
        if data is not None:
            dataset = repos.datasets.get({"id": data.dataset})
            why = "only versions of it are deleted"
            yield Descendant(kind="dataset", id=dataset.id, name=dataset.name, effect=_STAYS, why=why)
    bases = sorted({job.base_model for job in tree.jobs})
    for base in uow.base_models.all({"id": bases}) if bases else []:
        yield Descendant(kind="base model", id=base.id, name=base.name, effect=_STAYS, why="it belongs to the platform")


def stop_endpoints(uow: UnitOfWork, tree: LineageTree, now: datetime) -> list[Descendant]:
    """Start to delete the endpoints of a tree; return those that were not being deleted.

    Their rows go when their replicas have stopped.
    """
    stopped = []
    for endpoint in tree.endpoints:
        if endpoint.state is not EndpointState.DELETING:
            update = {"state": EndpointState.DELETING, "changed_at": now}
            uow.project(endpoint.project).endpoints.save(endpoint.model_copy(update=update))
            stopped.append(Descendant(kind="endpoint", id=endpoint.id, name=endpoint.name, effect=_DELETED))
    return stopped


def discard_tree(uow: UnitOfWork, deletion: CascadeDeletion, tree: LineageTree, now: datetime) -> list[Descendant]:
    """Delete the rows of a tree without endpoints, and their files after the commit; return what was deleted."""
    deleted = [each for each in tree.descendants if each.effect is _DELETED and each.kind != "checkpoint"]
    if deletion.kind == "project":
        discard_project(uow, deletion.subject, now)
        return []
    repos = uow.project(deletion.project)
    numbers: dict[str, set[int]] = {}
    for version in tree.model_versions:
        numbers.setdefault(version.model, set()).add(version.number)
        repos.model_versions.delete({"id": version.id})
        uow.outbox.put("artifact.purge", deletion.project, version.prefix)
    for model in repos.models.all({"id": list(numbers)}):
        aliases = {name: number for name, number in model.aliases.items() if number not in numbers[model.id]}
        if aliases != model.aliases:
            repos.models.save(model.model_copy(update={"aliases": aliases}))
    for job in tree.jobs:
        repos.lineage.delete({"subject": f"job:{job.id}"})
        uow.tombstones.mark(Tombstone(project=deletion.project, job=job.id), now)
    if deletion.kind == "dataset":
        dataset = repos.datasets.find({"id": deletion.subject})
        if dataset is not None:
            discard_dataset(uow, dataset, tree.dataset_versions)
    else:
        for data in tree.dataset_versions:
            discard_version(uow, data)
    if deletion.kind == "model":
        repos.models.delete({"id": deletion.subject})
    repos.cascade_deletions.delete({"id": deletion.id})
    return deleted
