"""The registry: models, their versions, aliases, files and lineage."""

from dataclasses import dataclass
from typing import BinaryIO

from windlass.domain.errors import ConflictError, InvalidError, NotFoundError
from windlass.domain.models import Decision, Model, ModelVersion
from windlass.domain.records import Deletion, LineageEdge
from windlass.ports import ReadProjectData
from windlass.services.base import ProjectService, stored_bytes
from windlass.services.object_limits import require_below_limit
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Models(ProjectService):
    """Operations on the registered models of one project."""

    def page(self, limit: int, after: str | None) -> list[Model]:
        """List models, newest first."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).models.page(limit, after, newest_first=True)

    def get(self, name: str) -> Model:
        """Return the model of this name."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).models.get({"name": name})

    def update(self, name: str, version: int, description: str) -> Model:
        """Change the description."""
        with self.deps.database.write() as uow:
            models = uow.project(self.project).models
            model = models.get({"name": name})
            check_version("model", model.version, version)
            saved = models.save(model.model_copy(update={"description": description}))
            self.audit(uow, "model.update", model.id, name, self.project, before=model, after=saved)
        return saved

    def delete(self, name: str, version: int, *, dry_run: bool = False) -> Deletion:
        """Delete a model with all versions; ``dry_run`` only returns what that would remove.

        Raises:
            ConflictError: an endpoint serves one of them.
        """
        with self.deps.database.read() as uow:
            model, versions = _deletable(uow.project(self.project), name, version)
        deletion = Deletion(
            kind="model",
            id=model.id,
            name=name,
            contains={"model version": len(versions)} if versions else {},
            stored_bytes=stored_bytes(self.deps.store, *(version.prefix for version in versions)),
            consequences=tuple(
                f"alias {alias} of version {number} is deleted" for alias, number in model.aliases.items()
            ),
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                repos = uow.project(self.project)
                model, versions = _deletable(repos, name, version)
                for model_version in versions:
                    uow.outbox.put("artifact.purge", self.project, model_version.prefix)
                repos.models.delete({"id": model.id})
                self.audit(uow, "model.delete", model.id, name, self.project, before=model)
        return deletion

    def versions(self, name: str, limit: int, after: str | None) -> list[ModelVersion]:
        """List a model's versions, newest first."""
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            model = repos.models.get({"name": name})
            return repos.model_versions.page(limit, after, {"model": model.id}, newest_first=True)

    def version(self, name: str, number: int) -> ModelVersion:
        """Return one version."""
        with self.deps.database.read() as uow:
            return find_version(uow.project(self.project), name, number)

    def dataset_of(self, version: ModelVersion) -> str:
        """Return the reference (``name@number``) of the dataset version that a model was trained on."""
        with self.deps.database.read() as uow:
            return uow.project(self.project).jobs.get({"id": version.job}).dataset_ref

    def base_of(self, version: ModelVersion) -> str:
        """Return the name of the base model, or its id when it was deleted from the catalogue."""
        with self.deps.database.read() as uow:
            base = uow.base_models.find({"id": version.base_model})
        return base.name if base else version.base_model

    def lineage(self, version: ModelVersion) -> list[LineageEdge]:
        """Return the lineage edges from the version back to its origins, nearest first."""
        edges: list[LineageEdge] = []
        pending, seen = [f"model-version:{version.id}"], set[str]()
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            while pending:
                subject = pending.pop(0)
                if subject in seen:
                    continue
                seen.add(subject)
                origins = repos.lineage.all({"subject": subject})
                edges += origins
                pending += [edge.object for edge in origins]
        return edges

    def lineage_names(self, edges: list[LineageEdge]) -> dict[str, str]:
        """Return the references by which users name the objects of a lineage, by ``kind:id``.

        Objects that were deleted are missing, except a dataset version whose job still has its reference.
        """
        ids: dict[str, list[str]] = {}
        for node in {node for edge in edges for node in (edge.subject, edge.object)}:
            kind, _, key = node.partition(":")
            ids.setdefault(kind, []).append(key)
        names: dict[str, str] = {f"upload:{key}": key for key in ids.get("upload", [])}
        with self.deps.database.read() as uow:
            repos = uow.project(self.project)
            jobs = repos.jobs.all({"id": ids.get("job", [])})
            versions = repos.dataset_versions.all({"id": ids.get("dataset-version", [])})
            datasets = {item.id: item.name for item in repos.datasets.all({"id": [one.dataset for one in versions]})}
            results = repos.model_versions.all({"id": ids.get("model-version", [])})
            models = {item.id: item.name for item in repos.models.all({"id": [one.model for one in results]})}
            bases = uow.base_models.all({"id": ids.get("base-model", [])})
        names |= {f"dataset-version:{job.dataset_version}": job.dataset_ref for job in jobs}
        names |= {f"job:{job.id}": job.id for job in jobs}
        names |= {f"dataset-version:{item.id}": f"{datasets[item.dataset]}@{item.number}" for item in versions}
        names |= {f"model-version:{item.id}": f"{models[item.model]}@{item.number}" for item in results}
        names |= {f"base-model:{item.id}": item.name for item in bases}
        return names

    def open_file(self, name: str, number: int, path: str) -> tuple[BinaryIO, int]:
        """Open a file of the version's manifest; return it with its length in bytes.

        Raises:
            NotFoundError: the manifest has no such file.
        """
        version = self.version(name, number)
        entry = version.manifest.files.get(path)
        if entry is None:
            raise NotFoundError(f"{name}@{number} has no file {path}")
        key = self.deps.store.published_file(version.prefix, path, version.manifest.digest())
        return self.deps.store.open(key), entry.bytes

    def delete_version(self, name: str, number: int, *, dry_run: bool = False) -> Deletion:
        """Delete a version and its files; ``dry_run`` only returns what that would remove.

        Raises:
            ConflictError: an alias points at it or an endpoint serves it.
        """
        with self.deps.database.read() as uow:
            version = _deletable_version(uow.project(self.project), name, number)
        deletion = Deletion(
            kind="model version",
            id=version.id,
            name=f"{name}@{number}",
            stored_bytes=stored_bytes(self.deps.store, version.prefix),
        )
        if not dry_run:
            with self.deps.database.write() as uow:
                repos = uow.project(self.project)
                _deletable_version(repos, name, number)
                repos.model_versions.delete({"id": version.id})
                uow.outbox.put("artifact.purge", self.project, version.prefix)
                self.audit(uow, "model-version.delete", version.id, f"{name}@{number}", self.project, before=version)
        return deletion

    def put_alias(self, name: str, alias: str, number: int) -> Model:
        """Set an alias to a version; endpoints that use the alias roll out to it.

        Raises:
            InvalidError: the version was rejected by its gates.
            LimitReachedError: the model has too many aliases.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            version = find_version(repos, name, number)
            if version.decision is Decision.REJECTED:
                why = version.reason.message if version.reason else "it was rejected"
                raise InvalidError.field(
                    "/version", f"{name}@{number} may not take an alias: {why}", hint="choose a candidate version"
                )
            model = repos.models.get({"name": name})
            if alias not in model.aliases:
                number_of, limit = len(model.aliases), self.deps.limits.aliases_per_model
                require_below_limit("aliases", f"model {name}", number_of, limit, "WINDLASS_LIMIT_MAX_ALIASES")
            saved = repos.models.save(model.model_copy(update={"aliases": {**model.aliases, alias: number}}))
            self.audit(uow, "model.alias", model.id, f"{name}@{alias}", self.project, before=model, after=saved)
        return saved

    def delete_alias(self, name: str, alias: str) -> Model:
        """Delete an alias.

        Raises:
            NotFoundError: no such alias.
            ConflictError: an endpoint uses it.
        """
        with self.deps.database.write() as uow:
            repos = uow.project(self.project)
            model = repos.models.get({"name": name})
            if alias not in model.aliases:
                raise NotFoundError(f"model {name} has no alias {alias}")
            for endpoint in repos.endpoints.all():
                if any(target.model == name and target.alias == alias for target in endpoint.spec.traffic):
                    raise ConflictError(
                        f"endpoint {endpoint.name} uses alias {alias}", hint="change the endpoint first"
                    )
            aliases = {key: at for key, at in model.aliases.items() if key != alias}
            saved = repos.models.save(model.model_copy(update={"aliases": aliases}))
            self.audit(uow, "model.alias-delete", model.id, f"{name}@{alias}", self.project, before=model, after=saved)
        return saved


def find_version(repos: ReadProjectData, name: str, number: int) -> ModelVersion:
    """Return a model's version by number.

    Raises:
        NotFoundError: no such model, or no such version of it.
    """
    model = repos.models.get({"name": name})
    version = repos.model_versions.find({"model": model.id, "number": number})
    if version is None:
        raise NotFoundError(f"no version {number} of model {name}")
    return version


def _deletable(repos: ReadProjectData, name: str, version: int) -> tuple[Model, list[ModelVersion]]:
    """Return a model that may be deleted, and its versions. Raises as ``Models.delete``."""
    model = repos.models.get({"name": name})
    check_version("model", model.version, version)
    _require_not_served(repos, name, None)
    return model, repos.model_versions.all({"model": model.id})


def _deletable_version(repos: ReadProjectData, name: str, number: int) -> ModelVersion:
    """Return a model version that may be deleted. Raises as ``Models.delete_version``."""
    version = find_version(repos, name, number)
    aliases = [alias for alias, at in repos.models.get({"name": name}).aliases.items() if at == number]
    if aliases:
        raise ConflictError(
            f"alias {aliases[0]} points at {name}@{number}",
            hint=f"move the alias: `windlass model alias {name}@NUMBER {aliases[0]}`, "
            f"or remove it: `windlass model alias {name} {aliases[0]} --remove`",
        )
    _require_not_served(repos, name, number)
    return version


def _require_not_served(repos: ReadProjectData, name: str, number: int | None) -> None:
    for endpoint in repos.endpoints.all():
        live = any(target.model == name and number in (None, target.number) for target in endpoint.live)
        desired = any(target.model == name and number in (None, target.version) for target in endpoint.spec.traffic)
        if live or desired:
            version = name if number is None else f"{name}@{number}"
            raise ConflictError(
                f"endpoint {endpoint.name} serves {version}",
                hint=f"serve another version: `windlass endpoint update {endpoint.name} MODEL@VERSION`, "
                f"or delete the endpoint: `windlass endpoint delete {endpoint.name}`",
            )
