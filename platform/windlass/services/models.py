"""The registry: models, their versions, aliases, files and lineage."""

from dataclasses import dataclass
from typing import BinaryIO

from windlass.domain.errors import ConflictError, InvalidError, NotFoundError
from windlass.domain.models import Decision, Model, ModelVersion
from windlass.domain.records import LineageEdge
from windlass.ports import ProjectData
from windlass.services.backing import ProjectUseCases
from windlass.services.projects import check_version


@dataclass(frozen=True)
class Models(ProjectUseCases):
    """The use cases of registered models."""

    def page(self, limit: int, after: str | None) -> list[Model]:
        """List models, newest first."""
        with self.backing.database.read() as work:
            return work.of(self.project).models.page(limit, after, newest_first=True)

    def get(self, name: str) -> Model:
        """Return the model of this name."""
        with self.backing.database.read() as work:
            return work.of(self.project).models.get(name=name)

    def update(self, name: str, version: int, description: str) -> Model:
        """Change the description."""
        with self.backing.database.write() as work:
            models = work.of(self.project).models
            model = models.get(name=name)
            check_version("model", model.version, version)
            saved = models.save(model.model_copy(update={"description": description}))
            self.audit(work, "model.update", model.id, self.project)
        return saved

    def delete(self, name: str, version: int) -> None:
        """Remove a model with all versions.

        Raises:
            ConflictError: an endpoint serves one of them.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            model = inside.models.get(name=name)
            check_version("model", model.version, version)
            _refuse_if_served(inside, name, None)
            for one in inside.model_versions.all(model=model.id):
                work.outbox.put("artifact.purge", self.project, one.prefix)
            inside.models.delete(id=model.id)
            self.audit(work, "model.delete", model.id, self.project)

    def versions(self, name: str, limit: int, after: str | None) -> list[ModelVersion]:
        """List a model's versions, newest first."""
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            model = inside.models.get(name=name)
            return inside.model_versions.page(limit, after, newest_first=True, model=model.id)

    def version(self, name: str, number: int) -> ModelVersion:
        """Return one version."""
        with self.backing.database.read() as work:
            return find_version(work.of(self.project), name, number)

    def dataset_of(self, version: ModelVersion) -> str:
        """Return the dataset version that a model was trained on, as people name it."""
        with self.backing.database.read() as work:
            return work.of(self.project).jobs.get(id=version.job).dataset_ref

    def base_of(self, version: ModelVersion) -> str:
        """Return the name of the base model, or its id when it has left the catalogue."""
        with self.backing.database.read() as work:
            base = work.base_models.find(id=version.base_model)
        return base.name if base else version.base_model

    def lineage(self, version: ModelVersion) -> list[LineageEdge]:
        """Return every edge that leads from the version back to its origins, nearest first."""
        edges: list[LineageEdge] = []
        pending, seen = [f"model-version:{version.id}"], set[str]()
        with self.backing.database.read() as work:
            inside = work.of(self.project)
            while pending:
                subject = pending.pop(0)
                if subject in seen:
                    continue
                seen.add(subject)
                found = inside.lineage.all(subject=subject)
                edges += found
                pending += [edge.object for edge in found]
        return edges

    def open_file(self, name: str, number: int, path: str) -> tuple[BinaryIO, int]:
        """Open a file that the version's manifest lists; return it with its length.

        Raises:
            NotFoundError: the manifest lists no such file.
        """
        version = self.version(name, number)
        entry = version.manifest.files.get(path)
        if entry is None:
            raise NotFoundError(f"{name}@{number} has no file {path}")
        return self.backing.store.open(f"{version.prefix}/{path}"), entry.bytes

    def delete_version(self, name: str, number: int) -> None:
        """Remove a version and its files.

        Raises:
            ConflictError: an alias points at it or an endpoint serves it.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            version = find_version(inside, name, number)
            model = inside.models.get(name=name)
            aliases = [alias for alias, at in model.aliases.items() if at == number]
            if aliases:
                raise ConflictError(f"alias {aliases[0]} points at {name}@{number}", hint="move the alias first")
            _refuse_if_served(inside, name, number)
            inside.model_versions.delete(id=version.id)
            work.outbox.put("artifact.purge", self.project, version.prefix)
            self.audit(work, "model-version.delete", version.id, self.project)

    def put_alias(self, name: str, alias: str, number: int) -> Model:
        """Point an alias at a version; endpoints that follow the alias roll out to it.

        Raises:
            InvalidError: the version was rejected by its gates.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            version = find_version(inside, name, number)
            if version.decision is Decision.REJECTED:
                why = version.reason.message if version.reason else "it was rejected"
                raise InvalidError.field(
                    "/version", f"{name}@{number} may not take an alias: {why}", hint="choose a candidate version"
                )
            model = inside.models.get(name=name)
            saved = inside.models.save(model.model_copy(update={"aliases": {**model.aliases, alias: number}}))
            self.audit(work, "model.alias", f"{model.id}:{alias}", self.project)
        return saved

    def delete_alias(self, name: str, alias: str) -> Model:
        """Remove an alias.

        Raises:
            NotFoundError: no such alias.
            ConflictError: an endpoint follows it.
        """
        with self.backing.database.write() as work:
            inside = work.of(self.project)
            model = inside.models.get(name=name)
            if alias not in model.aliases:
                raise NotFoundError(f"model {name} has no alias {alias}")
            for endpoint in inside.endpoints.all():
                if any(target.model == name and target.alias == alias for target in endpoint.spec.traffic):
                    raise ConflictError(
                        f"endpoint {endpoint.name} follows alias {alias}", hint="change the endpoint first"
                    )
            left = {key: at for key, at in model.aliases.items() if key != alias}
            saved = inside.models.save(model.model_copy(update={"aliases": left}))
            self.audit(work, "model.alias-delete", f"{model.id}:{alias}", self.project)
        return saved


def find_version(inside: ProjectData, name: str, number: int) -> ModelVersion:
    """Return a model's version by number.

    Raises:
        NotFoundError: no such model, or no such version of it.
    """
    model = inside.models.get(name=name)
    version = inside.model_versions.find(model=model.id, number=number)
    if version is None:
        raise NotFoundError(f"no version {number} of model {name}")
    return version


def _refuse_if_served(inside: ProjectData, name: str, number: int | None) -> None:
    for endpoint in inside.endpoints.all():
        live = any(target.model == name and number in (None, target.number) for target in endpoint.live)
        wished = any(target.model == name and number in (None, target.version) for target in endpoint.spec.traffic)
        if live or wished:
            raise ConflictError(f"endpoint {endpoint.name} serves it", hint="change or delete the endpoint first")
