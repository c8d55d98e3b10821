"""Our own view of the store: custom resources as models, workloads as claims, and whom a change concerns."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from pydantic import ValidationError

from windlass.domain.ids import NAME_PATTERN
from windlass.domain.quota import Claim
from windlass.kube.names import ENDPOINT_LABEL, OWNER, POOL_LABEL, PROJECT_LABEL, cohort_of, namespace_of, project_of
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.resources import GPUPool, ModelEndpoint, Project, Resource
from windlass.kube.shelf import COHORT_MARK
from windlass.kube.store import Store
from windlass_operators.decide.claims import claims
from windlass_operators.kinds import COHORT, ENDPOINT, MODELS, NODE, POOL, PROJECT, WORKLOAD
from windlass_operators.queue import Key

_log = logging.getLogger(__name__)
_Model = TypeVar("_Model", bound=Resource)


class World:
    """Reads the store. What cannot be read is left out, and its own reconciliation says so."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[Kind, dict[Ref, tuple[str, Resource | None]]] = {kind: {} for kind in MODELS}

    def parse(self, model: type[_Model], raw: Object) -> _Model:
        """Return a resource as its model; fields that a newer definition has added are not for us.

        Raises:
            ValidationError: it is none; the API server may hold objects of an older or a loosened definition.
        """
        return model.model_validate({"status": {}} | raw, extra="ignore")

    def pools(self) -> dict[str, GPUPool]:
        """Return the pools by name."""
        return {one.metadata.name: one for one in self._all(POOL, GPUPool)}

    def projects(self) -> dict[str, Project]:
        """Return the projects by name; those that are being deleted too: what they hold they hold."""
        return {one.metadata.name: one for one in self._all(PROJECT, Project)}

    def project(self, name: str) -> Project | None:
        """Return one project, None when it is not there or cannot be read."""
        raw = self.store.get(Ref(PROJECT, name))
        return None if raw is None else self._known(Project, raw)

    def cohort_mates(self, project: Project) -> dict[str, Project]:
        """Return the projects that lend to or borrow from this one, and itself, by name."""
        cohort = project.spec.cohort
        raws = self.store.marked(PROJECT, COHORT_MARK, cohort) if cohort else []
        mates = [self._known(Project, raw) for raw in raws]
        return {one.metadata.name: one for one in mates if one} | {project.metadata.name: project}

    def older_endpoints(self, endpoint: ModelEndpoint) -> int:
        """Return how many endpoints of the same namespace are older, by creation and then by name, and not going."""
        name = endpoint.metadata.name
        stored = self.store.all(ENDPOINT, endpoint.metadata.namespace)
        ages = {raw["metadata"]["name"]: raw["metadata"].get("creationTimestamp", "") for raw in stored}
        staying = {raw["metadata"]["name"] for raw in stored if not raw["metadata"].get("deletionTimestamp")}
        return sum((ages[other], other) < (ages.get(name, ""), name) for other in staying)

    def claims_of(self, projects: Iterable[str], pools: dict[str, GPUPool]) -> list[Claim]:
        """Return what the workloads of these projects hold or wait for, but for those that cannot be read."""
        found: list[Claim] = []
        for one in (one for project in projects for one in self.store.all(WORKLOAD, namespace_of(project))):
            try:
                found += claims([one], pools)
            except ValueError as error:
                _log.warning("a Workload cannot be read", extra={"object": str(Ref.of(one)), "error": str(error)})
        return found

    def unreadable_pools(self) -> list[str]:
        """Return the names of pools that are stored and cannot be read."""
        return sorted({one["metadata"]["name"] for one in self.store.all(POOL)} - set(self.pools()))

    def quotas(self) -> Iterator[tuple[str, str]]:
        """Yield project and pool of every quota as it is stored, also of projects that cannot be read."""
        for raw in self.store.all(PROJECT):
            for quota in _dicts(raw.get("spec", {}).get("quotas")):
                yield raw["metadata"]["name"], str(quota.get("pool"))

    def members(self, cohort: str) -> list[str]:
        """Return the names of the projects in a cohort as they are stored, also of those that cannot be read."""
        return [raw["metadata"]["name"] for raw in self.store.marked(PROJECT, COHORT_MARK, cohort)]

    def _all(self, kind: Kind, model: type[_Model]) -> Iterator[_Model]:
        known = self.store.all(kind)
        if len(read := self._read[kind]) > len(known):
            for ref in set(read) - {Ref.of(raw) for raw in known}:
                read.pop(ref, None)
        for raw in known:
            if one := self._known(model, raw):
                yield one

    def _known(self, model: type[_Model], raw: Object) -> _Model | None:
        """Return a resource as its model, which is made once for each version."""
        ref, version = Ref.of(raw), raw["metadata"].get("resourceVersion", "")
        read = self._read[ref.kind]
        before = read.get(ref)
        if before is None or before[0] != version:
            before = read[ref] = (version, self._parsed(model, raw))
        return before[1] if isinstance(before[1], model) else None

    def _parsed(self, model: type[_Model], raw: Object) -> _Model | None:
        try:
            return self.parse(model, raw)
        except ValidationError:
            return None

    def concerned(self, subject: Object, before: Object | None) -> set[Key]:
        """Return what must be looked at when ``subject`` is new, gone or another than ``before``."""
        kind = Kind.of(subject)
        labels = subject["metadata"].get("labels", {})
        if kind in MODELS:
            return self._of_resource(kind, subject, before)
        if kind == NODE:
            return self._every(POOL)
        if kind == WORKLOAD:
            project = project_of(subject["metadata"]["namespace"])
            return self._of_project(project) if project else set()
        if kind == COHORT:
            members = self.members(subject["metadata"]["name"].removeprefix(f"{OWNER}-"))
            return {Key(COHORT, subject["metadata"]["name"])} | {Key(PROJECT, name) for name in members}
        return _owner_by_label(labels, subject["metadata"].get("namespace"))

    def _of_resource(self, kind: Kind, subject: Object, before: Object | None) -> set[Key]:
        """A status that we wrote ourselves concerns nobody else, and the writer least."""
        metadata = subject["metadata"]
        itself = Key(kind, metadata["name"], metadata.get("namespace"))
        if before is not None and _wish(before) == _wish(subject):
            return {itself} if before.get("status") != subject.get("status") else set()
        if kind == POOL:
            return {itself} | self._every(PROJECT) | self._every(POOL)
        if kind == PROJECT:
            mates = self._of_project(metadata["name"])
            for cohort in {one.get("spec", {}).get("cohort") for one in (subject, before or {})} - {None}:
                mates |= {Key(PROJECT, name) for name in self.members(cohort)} | {Key(COHORT, cohort_of(cohort))}
            if before is not None and self._share(before) == self._share(subject):
                return {itself} | self._endpoints_of(metadata["name"])
            return {itself} | mates | self._every(POOL) | self._endpoints_of(metadata["name"])
        if kind == ENDPOINT and (before is None or _is_going(before) != _is_going(subject)):
            return {itself} | self._of_namespace(metadata["namespace"])  # one more or less counts for the others
        return {itself}

    def _share(self, project: Object) -> tuple[object, ...]:
        """What others have to do with a project: its quotas, and whether it can be read at all."""
        spec, metadata = project.get("spec", {}), project["metadata"]
        readable = self._parsed(Project, project) is not None
        return metadata.get("uid"), metadata.get("deletionTimestamp"), spec.get("cohort"), spec.get("quotas"), readable

    def _of_project(self, name: str) -> set[Key]:
        """The project, who lends to it or borrows from it, and the pools that it has quotas of."""
        raw = self.store.get(Ref(PROJECT, name))
        if raw is None:
            return {Key(PROJECT, name)}
        spec = raw.get("spec", {})
        cohort = spec.get("cohort")
        mates = self.members(cohort) if cohort else []
        pools = {Key(POOL, str(quota.get("pool"))) for quota in _dicts(spec.get("quotas"))}
        return {Key(PROJECT, name)} | {Key(PROJECT, mate) for mate in mates} | pools

    def _endpoints_of(self, project: str) -> set[Key]:
        return self._of_namespace(namespace_of(project))

    def _of_namespace(self, namespace: str) -> set[Key]:
        found = self.store.all(ENDPOINT, namespace)
        return {Key(ENDPOINT, one["metadata"]["name"], one["metadata"]["namespace"]) for one in found}

    def _every(self, kind: Kind) -> set[Key]:
        return {Key(kind, one["metadata"]["name"], one["metadata"].get("namespace")) for one in self.store.all(kind)}


def _owner_by_label(labels: Mapping[str, str], namespace: str | None) -> set[Key]:
    """The resource that a child says it belongs to."""
    if ENDPOINT_LABEL in labels:
        return {Key(ENDPOINT, labels[ENDPOINT_LABEL], namespace)}
    if PROJECT_LABEL in labels:
        return {Key(PROJECT, labels[PROJECT_LABEL])}
    return {Key(POOL, labels[POOL_LABEL])} if POOL_LABEL in labels else set()


def wrong_name(name: str) -> str:
    """Return what is wrong with a resource's name: the empty string, if nothing.

    A Kubernetes name may hold dots, with which ``a.b`` and ``c`` would share a ClusterQueue with ``a`` and ``b.c``.
    """
    return "" if re.fullmatch(NAME_PATTERN, name) else f"metadata.name: {name!r} has other signs than a-z, 0-9 and -"


def _is_going(subject: Object) -> bool:
    return bool(subject["metadata"].get("deletionTimestamp"))


def _wish(subject: Object) -> tuple[object, ...]:
    metadata = subject["metadata"]
    marks = ("uid", "generation", "deletionTimestamp", "finalizers", "annotations")
    return tuple(metadata.get(mark) for mark in marks)


def _dicts(value: object) -> list[Object]:
    """The entries of a list that may be anything: the object was never checked by us."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
