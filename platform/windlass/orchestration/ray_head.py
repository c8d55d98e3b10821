"""The one local Ray of the embedded mode: a token-protected head on the loopback address, in a session of its own."""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from windlass.domain.errors import UnavailableError
from windlass.orchestration import processes
from windlass.orchestration.processes import ProcessRecord
from windlass.runtime.reach import listens

_MODULE = "windlass_pipelines.train.ray_head"
_LOGICAL_CPUS = 10_000
"""More than anything asks for: Ray never queues what Windlass admitted."""
_OBJECT_STORE_BYTES = 300_000_000
_START_SECONDS = 120.0
_STOP_GRACE_SECONDS = 5.0
_LAST_WORDS_BYTES = 2000
_LONGEST_TEMP_ROOT = 22
"""In bytes. Ray puts sockets 85 bytes below it, and Linux takes socket paths of at most 107 (unix(7))."""


class LocalRay:
    """Implements ``ports.RayCluster``.

    Args:
        root: folder that is kept: token, process record, log. One Ray per folder.
        python: interpreter that has the ``train`` extra.
        temp_root: where Ray's own files go; by default the system's temporary folder, or ``/tmp`` where that
            path is too long.
    """

    def __init__(self, root: Path, python: str, temp_root: Path | None = None) -> None:
        self._root = root
        self._python = python
        key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
        self._temp = _short(temp_root or Path(tempfile.gettempdir())) / f"wl-{key}"
        self._token = root / "token"
        self._record = root / "process.json"
        self._log = root / "head.log"
        self._ready = self._temp / "address"

    def environment(self) -> dict[str, str]:
        """Return what a child needs in its environment to join this Ray."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Without this a client replaces 127.0.0.1 by the machine's outer address, where nobody listens.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    def ensure(self) -> str:
        """Start it if it is not running, adopt it if an earlier server left it; return its address.

        Raises:
            UnavailableError: it does not come up; the message has its last words.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with processes.exclusive(self._root, wait_for_it=True):
            record = ProcessRecord.load(self._record)
            if record is not None:
                record = processes.find(record)
                if address := self._address(record, wait_seconds=_START_SECONDS):
                    return address
                self._clear(record)
            record = self._start()
            if address := self._address(record, wait_seconds=_START_SECONDS):
                return address
            words = self._last_words()
            self._clear(record)
        raise UnavailableError(f"Ray does not start: {words}", hint=f"see {self._log}")

    def stop(self) -> None:
        """End all of its processes and remove its temporary files."""
        if not self._root.exists():
            return
        with processes.exclusive(self._root, wait_for_it=True):
            record = ProcessRecord.load(self._record)
            if record is not None:
                self._clear(processes.find(record))

    def _start(self) -> ProcessRecord:
        _private_folder(self._temp)
        self._write_token()
        self._log.unlink(missing_ok=True)
        claim = processes.claim()
        claim.save(self._record)
        # Ray opens its own folder to everybody, so it gets one inside the private one.
        argv = [self._python, "-m", _MODULE, "--temp-dir", str(self._temp / "r"), "--ready", str(self._ready)]
        argv += ["--cpus", str(_LOGICAL_CPUS), "--object-store-bytes", str(_OBJECT_STORE_BYTES)]
        record = processes.start(argv, environment=self._head_environment(), log=self._log, record=claim)
        record.save(self._record)
        return record

    def _head_environment(self) -> Mapping[str, str]:
        # Threads of OpenMP wait for each other by spinning, unless told otherwise. On a machine that does more than one
        # thing, a step of two threads then takes many times as long as a step of one.
        waiting = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
        return processes.clean_environment(
            {**self.environment(), "TMPDIR": str(self._temp.parent), "OMP_WAIT_POLICY": waiting}
        )

    def _address(self, record: ProcessRecord, wait_seconds: float) -> str | None:
        """Wait for the head to be ready; None when its process is not there."""
        deadline = time.monotonic() + wait_seconds
        while processes.alive(record) and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                address = self._ready.read_text(encoding="ascii")
                if listens(address):
                    return address
            time.sleep(0.05)
        return None

    def _write_token(self) -> None:
        draft = self._token.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(secrets.token_hex(32), encoding="ascii")
        draft.replace(self._token)

    def _last_words(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_bytes()[-_LAST_WORDS_BYTES:].decode(errors="replace").strip()
        return "it left no log"

    def _clear(self, record: ProcessRecord) -> None:
        processes.kill(record, grace_seconds=_STOP_GRACE_SECONDS)
        self._record.unlink(missing_ok=True)
        if self._temp.exists():
            _private_folder(self._temp)
            shutil.rmtree(self._temp)


def _short(folder: Path) -> Path:
    return folder if len(os.fsencode(folder)) <= _LONGEST_TEMP_ROOT else Path("/tmp")  # noqa: S108 - the folder inside it is made private


def _private_folder(folder: Path) -> None:
    """Make a folder that only this user can enter; anybody may have made one of that name in the shared parent."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UnavailableError(f"{folder} is not a private folder of this user", hint="remove it and start again")
