"""The rotation of the master key: every data key is wrapped again."""

import logging
from dataclasses import dataclass

from windlass.domain.errors import UnavailableError
from windlass.services.base import WorkerDependencies

_log = logging.getLogger(__name__)
_ROTATION_SECONDS = 60.0


@dataclass(frozen=True)
class KeyRotation:
    """Wraps every data key by the current master key; call ``step`` periodically. No file is read or written."""

    deps: WorkerDependencies

    def step(self) -> float:
        """Rewrap the keys of the other master keys; return the seconds until the next step.

        Raises:
            UnavailableError: a key cannot be unwrapped; the others are rewrapped.
        """
        masters = self.deps.data_keys.masters if self.deps.data_keys is not None else None
        if masters is None or not masters.others:
            return _ROTATION_SECONDS
        with self.deps.database.read() as uow:
            stored = uow.all_projects().data_keys.all({"master_key": masters.others})
        errors: list[UnavailableError] = []
        for key in stored:
            try:
                data_key = masters.unwrap(key.master_key, key.wrapped, key.project)
            except UnavailableError as error:
                errors.append(error)
                continue
            update = {"master_key": masters.current, "wrapped": masters.wrap(data_key, key.project)}
            with self.deps.database.write() as uow:
                keys = uow.project(key.project).data_keys
                if keys.find({}) == key:  # else the project was deleted, or another worker has rewrapped it
                    keys.save(key.model_copy(update=update))
        if stored:
            rewrapped = len(stored) - len(errors)
            _log.info("data keys were rewrapped", extra={"master_key": masters.current, "count": rewrapped})
        if errors:
            raise errors[0]
        return _ROTATION_SECONDS
