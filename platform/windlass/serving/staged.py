"""Artifacts of an object store on the disk of this machine, for model servers that read them by path."""

import contextlib
import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from windlass.domain.artifacts import MANIFEST_NAME, Manifest
from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.domain.errors import ChecksumMismatchError, WindlassError
from windlass.ports import ObjectStore, ServingBackend
from windlass.runtime.artifacts import verify

_log = logging.getLogger(__name__)


class StagedServing:
    """``ports.ServingBackend`` that copies the artifact of an application to a folder before ``backend`` serves it.

    The copies are made in a thread, one after the other. ``apply`` repeats one that failed.

    Args:
        backend: serves artifacts on the disk.
        store: the object store.
        root: the folder of the copies, one for each digest of a manifest.
    """

    def __init__(self, backend: ServingBackend, store: ObjectStore, root: Path) -> None:
        self._backend, self._store, self._root = backend, store, root
        self._lock = threading.Lock()
        self._waiting: dict[str, ServedApp] = {}
        self._problems: dict[str, str] = {}
        self._copier: threading.Thread | None = None

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Serve the applications whose artifacts are here, and copy the others."""
        staged = [app.model_copy(update={"artifact_uri": self._folder(app).as_uri()}) for app in apps if self._has(app)]
        with self._lock:
            self._waiting = {app.key: app for app in apps if not self._has(app)}
            if self._waiting and (self._copier is None or not self._copier.is_alive()):
                self._copier = threading.Thread(target=self._copy_all, name="model-copies", daemon=True)
                self._copier.start()
        self._backend.apply(staged)
        self._delete_unused({app.digest for app in apps})

    def status(self) -> ServingStatus:
        """Return the status of the applications; those whose artifact is being copied are ``deploying``."""
        status = self._backend.status()
        with self._lock:
            waiting = [
                AppStatus(
                    key=key,
                    state=AppState.DEPLOYING,
                    message=self._problems.get(app.digest, "the model is being copied from the object store"),
                    transient=True,
                )
                for key, app in self._waiting.items()
            ]
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

    def _copy_all(self) -> None:
        failed: set[str] = set()
        while True:
            with self._lock:
                left = [app for app in self._waiting.values() if app.key not in failed and not self._has(app)]
            if not left:
                return
            try:
                self._copy(left[0])
            except (WindlassError, OSError) as error:
                failed.add(left[0].key)
                _log.warning("an artifact cannot be copied", extra={"app": left[0].key, "error": str(error)})
                with self._lock:
                    self._problems[left[0].digest] = f"the model cannot be copied from the object store: {error}"
            else:
                with self._lock:
                    self._problems.pop(left[0].digest, None)

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
