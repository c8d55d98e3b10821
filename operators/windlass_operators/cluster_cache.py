"""Typed access to the store: custom resources as models, quota usage, and the keys that a change affects."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from windlass.domain.ids import NAME_PATTERN
from windlass.kube.cache.indexer import COHORT_INDEX
from windlass.kube.cache.parse_cache import ParseCache
from windlass.kube.cache.store import Change, Store
from windlass.kube.kueue.cluster_objects import Node
from windlass.kube.names import ENDPOINT_LABEL, OWNER, POOL_LABEL, PROJECT_LABEL, cohort_of, namespace_of, project_of
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import CustomResource, GPUPool, ModelEndpoint, Project
from windlass.kube.resources.project import QuotaUse
from windlass_operators.kinds import COHORT, ENDPOINT, MODELS, NODE, POOL, PROJECT, WORKLOAD
from windlass_operators.usage import UsageCache
from windlass_operators.work_queue import Key

_Model = TypeVar("_Model", bound=CustomResource)


class ClusterCache:
    """Reads the store. Invalid objects are omitted; their own reconciliation reports them."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self.store = store
        self._pools: ParseCache[GPUPool] = ParseCache(lambda raw: self.parse(GPUPool, raw))
        self._projects: ParseCache[Project] = ParseCache(lambda raw: self.parse(Project, raw))
        self._nodes: ParseCache[Node] = ParseCache(Node.parse)
        self._usage = UsageCache(store, now)
        self._on_written: Callable[[Change], None] | None = None
        self._on_usage: Callable[[set[str]], None] | None = None

    def subscribe(self, on_written: Callable[[Change], None], on_usage: Callable[[set[str]], None]) -> None:
        """Call ``on_written`` with the changes of ``record``, ``on_usage`` with the projects whose usage changed."""
        self._on_written, self._on_usage = on_written, on_usage

    def record(self, written: Object) -> None:
        """Store the response to a write."""
        change = self.store.put(written)
        if change and self._on_written:
            self._on_written(change)

    def parse(self, model: type[_Model], raw: Object) -> _Model:
        """Parse a resource; unknown fields, as of a newer CRD, are ignored.

        Raises:
            ValidationError: it is invalid; the API server may store objects of an older or relaxed CRD.
        """
        return model.model_validate({"status": {}} | raw, extra="ignore")

    def pools(self) -> dict[str, GPUPool]:
        """Return the pools by name."""
        return {pool.metadata.name: pool for pool in self._pools.parse(self.store.all(POOL))[0]}

    def projects(self) -> dict[str, Project]:
        """Return the projects by name, including those being deleted, which still use quota."""
        return {project.metadata.name: project for project in self._projects.parse(self.store.all(PROJECT))[0]}

    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes."""
        return self._nodes.parse(self.store.all(NODE))[0]

    def project(self, name: str) -> Project | None:
        """Return a project, None if it does not exist or is invalid."""
        raw = self.store.get(Ref(PROJECT, name))
        return None if raw is None else self._projects.get(raw)

    def cohort_members(self, project: Project) -> dict[str, Project]:
        """Return the projects of this one's cohort, and itself, by name."""
        cohort = project.spec.cohort
        raws = self.store.by_index(PROJECT, COHORT_INDEX, cohort) if cohort else []
        members = [member for raw in raws if (member := self._projects.get(raw))]
        return {member.metadata.name: member for member in members} | {project.metadata.name: project}

    def usage(self, project: Project, pools: Mapping[str, GPUPool]) -> Mapping[str, QuotaUse]:
        """Return the project's usage by pool, and report the cohort's projects whose usage changed."""
        use, changed = self._usage.of_project(project, self.cohort_members(project), pools)
        if changed and self._on_usage:
            self._on_usage(changed)
        return use

    def pool_usage(self, pool: str, pools: Mapping[str, GPUPool]) -> dict[str, int]:
        """Return the GPUs of a pool that are in use, by project."""
        return self._usage.of_pool(pool, self.projects(), pools)

    def older_endpoints(self, endpoint: ModelEndpoint) -> int:
        """Return the number of endpoints of the same namespace that are older (ties: by name) and not being deleted."""
        name = endpoint.metadata.name
        stored = self.store.all(ENDPOINT, endpoint.metadata.namespace)
        ages = {raw["metadata"]["name"]: raw["metadata"].get("creationTimestamp", "") for raw in stored}
        staying = {raw["metadata"]["name"] for raw in stored if not raw["metadata"].get("deletionTimestamp")}
        return sum((ages[other], other) < (ages.get(name, ""), name) for other in staying)

    def invalid_pools(self) -> list[str]:
        """Return the names of stored pools that are invalid."""
        return sorted({raw["metadata"]["name"] for raw in self.store.all(POOL)} - set(self.pools()))

    def quotas(self) -> Iterator[tuple[str, str]]:
        """Yield project and pool of every stored quota, including those of invalid projects."""
        for raw in self.store.all(PROJECT):
            for quota in _dict_items(raw.get("spec", {}).get("quotas")):
                yield raw["metadata"]["name"], str(quota.get("pool"))

    def members(self, cohort: str) -> list[str]:
        """Return the names of the stored projects of a cohort, including invalid ones."""
        return [raw["metadata"]["name"] for raw in self.store.by_index(PROJECT, COHORT_INDEX, cohort)]

    def affected_keys(self, change: Change) -> set[Key]:
        """Return the keys to reconcile because of a change."""
        subject = change.after or change.before
        if subject is None:
            return set()
        kind, metadata = change.ref.kind, subject["metadata"]
        if kind in MODELS:
            return self._keys_of_resource(kind, subject, change.before if change.after else None)
        if kind == NODE:
            return self._keys_of_node(change)
        if kind == WORKLOAD:
            project = project_of(metadata["namespace"])
            return self._keys_of_project(project) if project else set()
        if kind == COHORT:
            members = self.members(metadata["name"].removeprefix(f"{OWNER}-"))
            return {Key(COHORT, metadata["name"])} | {Key(PROJECT, name) for name in members}
        return _key_from_labels(metadata.get("labels", {}), metadata.get("namespace"))

    def usage_keys(self, projects: Iterable[str]) -> set[Key]:
        """Return the keys of the projects whose usage changed."""
        return {Key(PROJECT, name) for name in projects}

    @staticmethod
    def is_foreign(change: Change) -> bool:
        """Return whether the response to a write has another spec than before, which we never write."""
        before, after = change.before, change.after
        return before is None or after is None or _identity(before)[:-1] != _identity(after)[:-1]

    def _keys_of_node(self, change: Change) -> set[Key]:
        """Return the pools whose labels the node has or had."""
        labels = [node["metadata"].get("labels") or {} for node in (change.before, change.after) if node]
        return {
            Key(POOL, raw["metadata"]["name"])
            for raw in self.store.all(POOL)
            if any(_has_labels(each, raw.get("spec", {}).get("nodeLabels")) for each in labels)
        }

    def _keys_of_resource(self, kind: Kind, subject: Object, before: Object | None) -> set[Key]:
        """Return the keys affected by a custom resource; its status affects no others."""
        metadata = subject["metadata"]
        itself = Key(kind, metadata["name"], metadata.get("namespace"))
        if before is not None and _identity(before) == _identity(subject):
            return {itself} if before.get("status") != subject.get("status") else set()
        if kind == POOL:
            return {itself} | self._all_keys(PROJECT) | self._all_keys(POOL)
        if kind == PROJECT:
            return {itself} | self._endpoint_keys(metadata["name"]) | self._keys_sharing_quota(subject, before)
        if kind == ENDPOINT and (before is None or _is_deleting(before) != _is_deleting(subject)):
            return {itself} | self._keys_in_namespace(metadata["namespace"])  # affects the limit on endpoints
        return {itself}

    def _keys_sharing_quota(self, project: Object, before: Object | None) -> set[Key]:
        """Return the pools and the members of the cohorts that a changed project affects.

        If only quotas changed, the members are found by their usage, when the project is reconciled.
        """
        fields = [] if before is None else [self._shared_fields(before), self._shared_fields(project)]
        if fields and fields[0] == fields[1]:
            return set()
        pools = self._all_keys(POOL)
        if fields and fields[0][:-1] == fields[1][:-1]:
            return pools
        keys = self._keys_of_project(project["metadata"]["name"]) | pools
        for cohort in {version.get("spec", {}).get("cohort") for version in (project, before or {})} - {None}:
            keys |= {Key(PROJECT, name) for name in self.members(cohort)} | {Key(COHORT, cohort_of(cohort))}
        return keys

    def _shared_fields(self, project: Object) -> tuple[object, ...]:
        """Return the fields of a project that affect others: whether it is valid, its cohort, and last its quotas."""
        spec, metadata = project.get("spec", {}), project["metadata"]
        try:
            self.parse(Project, project)
        except ValidationError:
            readable = False
        else:
            readable = True
        return metadata.get("uid"), metadata.get("deletionTimestamp"), spec.get("cohort"), readable, spec.get("quotas")

    def _keys_of_project(self, name: str) -> set[Key]:
        """Return the keys of the project and of the pools that it has quotas of."""
        raw = self.store.get(Ref(PROJECT, name))
        spec = {} if raw is None else raw.get("spec", {})
        pools = {Key(POOL, str(quota.get("pool"))) for quota in _dict_items(spec.get("quotas"))}
        return {Key(PROJECT, name)} | pools

    def _endpoint_keys(self, project: str) -> set[Key]:
        return self._keys_in_namespace(namespace_of(project))

    def _keys_in_namespace(self, namespace: str) -> set[Key]:
        endpoints = [raw["metadata"] for raw in self.store.all(ENDPOINT, namespace)]
        return {Key(ENDPOINT, metadata["name"], metadata["namespace"]) for metadata in endpoints}

    def _all_keys(self, kind: Kind) -> set[Key]:
        subjects = [raw["metadata"] for raw in self.store.all(kind)]
        return {Key(kind, metadata["name"], metadata.get("namespace")) for metadata in subjects}


def _key_from_labels(labels: Mapping[str, str], namespace: str | None) -> set[Key]:
    """Return the key of a child's owner, from its labels."""
    if ENDPOINT_LABEL in labels:
        return {Key(ENDPOINT, labels[ENDPOINT_LABEL], namespace)}
    if PROJECT_LABEL in labels:
        return {Key(PROJECT, labels[PROJECT_LABEL])}
    return {Key(POOL, labels[POOL_LABEL])} if POOL_LABEL in labels else set()


def name_error(name: str) -> str:
    """Return what is wrong with a resource's name, empty if it is valid.

    Dots, which Kubernetes allows, are invalid: ``a.b`` and ``c`` would share a ClusterQueue with ``a`` and ``b.c``.
    """
    return "" if re.fullmatch(NAME_PATTERN, name) else f"metadata.name: {name!r} may only contain a-z, 0-9 and -"


def _is_deleting(subject: Object) -> bool:
    return bool(subject["metadata"].get("deletionTimestamp"))


def _identity(subject: Object) -> tuple[object, ...]:
    metadata = subject["metadata"]
    fields = ("uid", "generation", "deletionTimestamp", "annotations", "finalizers")
    return tuple(metadata.get(field) for field in fields)


def _dict_items(value: object) -> list[Object]:
    """Return the dict items of a value of any type; the object was not validated."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _has_labels(labels: Mapping[str, str], required: object) -> bool:
    return isinstance(required, dict) and bool(required) and required.items() <= labels.items()
