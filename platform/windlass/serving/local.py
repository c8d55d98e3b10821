"""Ray Serve on the local Ray, through a host process that outlives this server and keeps the wish it was last given."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from windlass.domain.endpoints import AppState, AppStatus, ServedApp, ServingStatus
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.runtime.reach import listens
from windlass.serving.files import STATUS_NAME, WISH_NAME, HostStatus, Wish, digest

_MODULE = "windlass_pipelines.serve"
_ADDRESS_NAME = "ray-address"
_STOP_SECONDS = 45.0
_SILENT_SECONDS = 90.0
"""The host touches its status file every few seconds; starting Serve, its longest step, takes far less than this."""
_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0
_LAST_WORDS_BYTES = 2000


_Model = TypeVar("_Model", bound=BaseModel)


class JoinableRay(Protocol):
    """A Ray on this machine that a child process can join (``windlass.orchestration.ray_head.LocalRay``)."""

    def ensure(self) -> str:
        """Start it if it is not running; return its address."""
        ...

    def environment(self) -> dict[str, str]:
        """Return what a child needs in its environment to join."""
        ...


class LocalServing:
    """Implements ``ports.ServingBackend``.

    Args:
        root: folder that is kept: wish, status, process record, log. One host process per folder.
        ray: where Serve runs.
        python: interpreter that has the ``train`` extra.
        clock: seconds that only grow, for the pauses between restarts.
    """

    def __init__(self, root: Path, ray: JoinableRay, python: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._ray, self._python, self._clock = root, ray, python, clock
        self._record = root / "process.json"
        self._wish = root / WISH_NAME
        self._status = root / STATUS_NAME
        self._port = root / "port"
        self._log = root / "host.log"
        self._pause, self._next_start = 0.0, 0.0

    def apply(self, apps: Sequence[ServedApp]) -> None:
        """Write the wish; start the host if none runs and there is something to serve, or still served.

        Raises:
            UnavailableError: Ray or the host process does not start.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        wish = Wish(apps=tuple(apps)).model_dump_json()
        with processes.exclusive(self._root, wait_for_it=True):
            if not self._wish.exists() or self._wish.read_text(encoding="utf-8") != wish:
                draft = self._wish.with_suffix(".new")
                draft.write_text(wish, encoding="utf-8")
                draft.replace(self._wish)
                self._next_start = 0.0
            if apps or self._serve_may_live():
                self._ensure_host()

    def status(self) -> ServingStatus:
        """Return what the host last said, if it lives; else that nothing of the wish is served, and why.

        A host that died is started again by the next ``apply``, after a pause that grows with each death.
        """
        content = _content(self._wish)
        wish = _parsed(content, Wish) or Wish()
        if self._host_lives():
            seen = _parsed(_content(self._status), HostStatus) or HostStatus()
            return _covering(wish, seen.status).model_copy(update={"complete": seen.wish == digest(content)})
        message = f"the model server is not running: {self._last_words()}"
        apps = tuple(_deploying(app, message) for app in wish.apps)
        return ServingStatus(apps=apps, complete=not self._serve_may_live())

    def stop(self) -> None:
        """End the host, and Serve with it; returns when no process of theirs is left and the port is free.

        The wish stays on disk, and is served again by the next ``apply``.
        """
        if not self._root.exists():
            return
        with processes.exclusive(self._root, wait_for_it=True):
            record = ProcessRecord.load(self._record)
            if record is None:
                return
            record = processes.find(record)
            lived = processes.alive(record)
            processes.kill(record, grace_seconds=_STOP_SECONDS)
            # A host that was killed leaves Serve in its Ray; only a process that joins that Ray can end it.
            if not lived or self._port.exists():
                self._shut_down_serve()
            self._record.unlink(missing_ok=True)
            self._status.unlink(missing_ok=True)

    def _ensure_host(self) -> None:
        """Adopt the host that runs, or start one unless the last one died a moment ago."""
        record = ProcessRecord.load(self._record)
        if record is not None:
            found = processes.find(record)
            if processes.alive(found) and not self._silent(found):
                if found != record:
                    found.save(self._record)
                return
            processes.kill(found)
            now = self._clock()
            if now < self._next_start:
                return
            self._pause = min(_LONGEST_PAUSE_SECONDS, self._pause * 2 or _FIRST_PAUSE_SECONDS)
            self._next_start = now + self._pause
        self._start()

    def _start(self) -> None:
        address = self._ray.ensure()
        (self._root / _ADDRESS_NAME).write_text(address, encoding="ascii")
        self._status.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        claim = processes.claim()
        claim.save(self._record)
        argv = [self._python, "-m", _MODULE, str(self._root)]
        processes.start(argv, environment=self._environment(address), log=self._log, record=claim).save(self._record)

    def _shut_down_serve(self) -> None:
        """Run the host's module once more, to end a Serve that lost its host; nothing to do when its Ray is gone."""
        address_file = self._root / _ADDRESS_NAME
        if not address_file.exists():
            return
        address = address_file.read_text(encoding="ascii")
        argv = [self._python, "-m", _MODULE, str(self._root), "--shut-down"]
        claim = processes.claim()
        child = processes.start(argv, environment=self._environment(address), log=self._log, record=claim)
        if not processes.wait(child, _STOP_SECONDS):
            processes.kill(child)
        self._port.unlink(missing_ok=True)

    def _environment(self, address: str) -> dict[str, str]:
        return processes.clean_environment({**self._ray.environment(), "RAY_ADDRESS": address})

    def _host_lives(self) -> bool:
        record = ProcessRecord.load(self._record)
        return record is not None and processes.alive(record) and not self._silent(record)

    def _silent(self, record: ProcessRecord) -> bool:
        """Tell whether the host has not touched its status for long, as one that hangs does not."""
        newest = max(_modified(self._record), _modified(self._status))
        return record.pid is not None and time.time() - newest > _SILENT_SECONDS

    def _serve_may_live(self) -> bool:
        """Tell whether a Serve may run that no host looks after: it has a port, and its Ray is there."""
        address = self._root / _ADDRESS_NAME
        return self._port.exists() and address.exists() and listens(address.read_text(encoding="ascii"))

    def _last_words(self) -> str:
        try:
            lines = self._log.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace").split("\n")
        except FileNotFoundError:
            return "it left no log"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it left an empty log")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _parsed(content: bytes, kind: type[_Model]) -> _Model | None:
    """Read what another process wrote; None when there is nothing, or it is not ours."""
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _covering(wish: Wish, seen: ServingStatus) -> ServingStatus:
    """Name every wished application, also one that the host has not seen yet, and what is still being stopped."""
    known = {app.key: app for app in seen.apps}
    wished = {app.key for app in wish.apps}
    named = (_asked(app, known.get(app.key)) for app in wish.apps)
    leaving = (_leaving(app) for app in seen.apps if app.key not in wished)
    return seen.model_copy(update={"apps": (*named, *leaving)})


def _asked(app: ServedApp, seen: AppStatus | None) -> AppStatus:
    """Return what was seen of a wished application, unless that was of an earlier one that is still leaving."""
    if seen is None or seen.state is AppState.LEAVING:
        return _deploying(app, "waiting for the model server")
    return seen


def _leaving(seen: AppStatus) -> AppStatus:
    return seen.model_copy(update={"state": AppState.LEAVING, "message": "it is being stopped"})


def _deploying(app: ServedApp, message: str) -> AppStatus:
    return AppStatus(key=app.key, state=AppState.DEPLOYING, message=message)
