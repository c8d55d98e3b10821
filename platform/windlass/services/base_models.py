"""The catalogue of base models. Adding one is an intent: a child process checks and converts the folder."""

from dataclasses import dataclass
from pathlib import Path

from windlass.domain.errors import ConflictError, InvalidError
from windlass.domain.models import BaseModelState, CatalogueModel
from windlass.services.backing import UseCases
from windlass.services.projects import LIVE_JOBS


@dataclass(frozen=True)
class BaseModels(UseCases):
    """The use cases of base models; writing is for platform admins."""

    def page(self, limit: int, after: str | None) -> list[CatalogueModel]:
        """List the catalogue."""
        with self.backing.database.read() as work:
            return work.base_models.page(limit, after)

    def get(self, name: str) -> CatalogueModel:
        """Return the entry of this name."""
        with self.backing.database.read() as work:
            return work.base_models.get(name=name)

    def add(self, name: str, path: str, licence: str, source: str) -> CatalogueModel:
        """Enter a model from a folder, or a GGUF file, on the server's disk; it is ready once it was checked.

        Raises:
            InvalidError: there is nothing at that path.
            ConflictError: the name is taken by a model that is ready or being imported.
        """
        if not Path(path).is_absolute() or not Path(path).exists():
            raise InvalidError.field("/path", "is not an absolute path of a folder or GGUF file on the server's disk")
        key = self.backing.new_id("bm")
        entry = CatalogueModel(
            id=key,
            name=name,
            licence=licence,
            source=source,
            path=path,
            prefix=f"base-models/{key}",
            state=BaseModelState.IMPORTING,
            created_at=self.backing.clock.now(),
        )
        with self.backing.database.write() as work:
            if work.base_models.find(name=name, state=BaseModelState.FAILED):
                work.base_models.delete(name=name)
            work.base_models.add(entry)
            work.outbox.put("base-model.import", "", key)
            self.audit(work, "base-model.create", key)
        return entry

    def delete(self, name: str) -> None:
        """Take a model out of the catalogue.

        Raises:
            ConflictError: a live job starts from it.
        """
        with self.backing.database.write() as work:
            entry = work.base_models.get(name=name)
            users = work.everywhere().jobs.all(base_model=entry.id, state=LIVE_JOBS)
            if users:
                raise ConflictError(f"job {users[0].id} starts from it", hint="wait for the job, or cancel it first")
            work.base_models.delete(id=entry.id)
            work.outbox.put("artifact.purge", "", entry.prefix)
            self.audit(work, "base-model.delete", entry.id)
