"""Artifacts of an object store on the disk of this machine, for model servers that read them by path."""

import contextlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import ChecksumMismatchError, WindlassError
from windlass.kit.backoff import Backoff
from windlass.ports import ObjectStore, ServingBackend
from windlass.runtime.artifacts import verify

_log = logging.getLogger(__name__)


_RETRIES = Backoff(first=2.0, maximum=60.0)


@dataclass(frozen=True)
class _Failure:
    """Why an artifact could not be copied, and when that is tried again."""

    problem: str
    tries: int
    next_at: float

    @property
    def is_permanent(self) -> bool:
        return math.isinf(self.next_at)


class StagedServing:
    """``ports.ServingBackend`` that copies the artifact of an application to a folder before ``backend`` serves it.

    The copies are made in a thread, one after the other. ``apply`` repeats one that failed, after a delay. An artifact
    that is not the registered one fails for good.

    Args:
        backend: serves artifacts on the disk.
        store: the object store.
        root: the folder of the copies, one for each digest of a manifest.
        clock: monotonic seconds.
    """

    def __init__(
        self, backend: ServingBackend, store: ObjectStore, root: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend, self._store, self._root, self._clock = backend, store, root, clock
        self._lock = threading.Lock()
        self._waiting: dict[str, ServedApp] = {}
        self._failures: dict[str, _Failure] = {}
        """By digest."""
        self._copier: threading.Thread | None = None

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Serve the applications whose artifacts are here, and copy the others."""
        staged = [app.model_copy(update={"artifact_uri": self._folder(app).as_uri()}) for app in apps if self._has(app)]
        with self._lock:
            self._waiting = {app.key: app for app in apps if not self._has(app)}
            digests = {app.digest for app in self._waiting.values()}
            self._failures = {digest: failure for digest, failure in self._failures.items() if digest in digests}
            if self._due() and (self._copier is None or not self._copier.is_alive()):
                self._copier = threading.Thread(target=self._copy_all, name="model-copies", daemon=True)
                self._copier.start()
        self._backend.apply(staged)
        self._delete_unused({app.digest for app in apps})

    def status(self) -> ServingStatus:
        """Return the status of the applications; those whose artifact is being copied are ``deploying``."""
        status = self._backend.status()
        with self._lock:
            waiting = [self._status_of(app) for app in self._waiting.values()]
        listed = {each.key for each in waiting}
        known = [each for each in status.apps if each.key not in listed]
        return status.model_copy(update={"apps": (*known, *waiting)})

    def stop(self) -> None:
        """Stop the model servers; the copies stay."""
        with self._lock:
            self._waiting = {}
        self._backend.stop()

    def _folder(self, app: ServedApp) -> Path:
        return self._root / app.digest

    def _has(self, app: ServedApp) -> bool:
        return self._folder(app).is_dir()

    def _due(self) -> list[ServedApp]:
        """Return the applications whose artifact is to be copied now; the caller holds the lock."""
        now = self._clock()
        return [
            app
            for app in self._waiting.values()
            if not self._has(app) and ((failure := self._failures.get(app.digest)) is None or failure.next_at <= now)
        ]

    def _status_of(self, app: ServedApp) -> AppStatus:
        failure = self._failures.get(app.digest)
        if failure is None:
            message = "the model is being copied from the object store"
            return AppStatus(key=app.key, state=AppState.DEPLOYING, message=message)
        message = f"the model cannot be copied from the object store: {failure.problem}"
        state = AppState.FAILED if failure.is_permanent else AppState.DEPLOYING
        return AppStatus(key=app.key, state=state, message=message, transient=not failure.is_permanent)

    def _copy_all(self) -> None:
        while True:
            with self._lock:
                due = self._due()
            if not due:
                return
            try:
                self._copy(due[0])
            except (WindlassError, OSError) as error:
                self._record_failure(due[0], error)

    def _record_failure(self, app: ServedApp, error: Exception) -> None:
        is_permanent = isinstance(error, ChecksumMismatchError)
        _log.warning("an artifact cannot be copied", extra={"app": app.key, "error": str(error)})
        with self._lock:
            last = self._failures.get(app.digest)
            tries = 1 if last is None else last.tries + 1
            next_at = math.inf if is_permanent else self._clock() + _RETRIES.delay(tries)
            self._failures[app.digest] = _Failure(str(error), tries, next_at)

    def _copy(self, app: ServedApp) -> None:
        """Copy an artifact to a scratch folder, verify it, and rename the folder.

        Raises:
            ChecksumMismatchError: it is not the artifact that was registered.
        """
        scratch = self._folder(app).with_suffix(".partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        prefix = self._store.key(app.artifact_uri)
        with self._store.open(f"{prefix}/{MANIFEST_NAME}") as stream:
            manifest = Manifest.read(stream, prefix)
        if manifest.digest() != app.digest:
            raise ChecksumMismatchError(f"the manifest has digest {manifest.digest()}, expected {app.digest}")
        (scratch / MANIFEST_NAME).write_text(manifest.model_dump_json(), "utf-8")
        for name in manifest.files:
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            key = self._store.published_file(prefix, name, app.digest)
            with self._store.open(key) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        verify(scratch, digest=app.digest)
        scratch.rename(self._folder(app))

    def _delete_unused(self, digests: set[str]) -> None:
        """Delete the copies of models that are not served any more; a loaded model does not need its files."""
        with contextlib.suppress(OSError):
            for folder in self._root.iterdir() if self._root.is_dir() else ():
                if folder.name.partition(".")[0] not in digests:
                    shutil.rmtree(folder, ignore_errors=True)
