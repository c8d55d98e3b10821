"""The data keys of projects: created with the project, unwrapped for the object store."""

import secrets
from dataclasses import dataclass, field

from windlass.domain.encryption import DataKey
from windlass.domain.errors import NotFoundError, UnavailableError
from windlass.domain.storage_layout import project_of, project_prefix
from windlass.ports import Clock, Database, MasterKeys, UnitOfWork

_KEY_BYTES = 32
_CACHE_SECONDS = 60.0
"""How long a process uses the key of a project that was deleted meanwhile."""
_MAX_CACHED = 10_000


@dataclass(frozen=True)
class ProjectKeys:
    """``ports.DataKeys`` of the projects in the database.

    A project is encrypted from its first object to its last: it has a data key from its creation, or none.
    """

    database: Database
    masters: MasterKeys | None
    """None: new projects get no key."""
    clock: Clock
    _cache: dict[str, tuple[float, bytes | None]] = field(default_factory=dict, repr=False)

    def create(self, uow: UnitOfWork, project: str) -> None:
        """Create the key of a new project in the transaction that creates it."""
        if self.masters is not None:
            key = DataKey(
                project=project,
                master_key=self.masters.current,
                wrapped=self.masters.wrap(secrets.token_bytes(_KEY_BYTES), project),
                created_at=self.clock.now(),
            )
            uow.project(project).data_keys.add(key)

    def encrypts(self, project: str) -> bool:
        """Return whether the files of a project are encrypted. Raises as ``data_key``."""
        return self.data_key(f"{project_prefix(project)}/file") is not None

    def data_key(self, key: str) -> bytes | None:
        """Return the data key for an object. See ``ports.DataKeys``."""
        project = project_of(key)
        if project is None:
            return None
        now = self.clock.monotonic()
        expires, cached = self._cache.get(project, (0.0, None))
        if expires > now:
            return cached
        found = self._read(project)
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[project] = (now + _CACHE_SECONDS, found)
        return found

    def _read(self, project: str) -> bytes | None:
        with self.database.read() as uow:
            stored = uow.project(project).data_keys.find({})
            if stored is None and uow.projects.find({"id": project}) is None:
                raise NotFoundError(f"no project {project}")
        if stored is None:
            return None
        if self.masters is None:
            raise UnavailableError(
                f"the files of project {project} are encrypted, and this server has no master keys",
                hint="set WINDLASS_ENCRYPTION_MASTER_KEYS_FILE",
            )
        return self.masters.unwrap(stored.master_key, stored.wrapped, project)
