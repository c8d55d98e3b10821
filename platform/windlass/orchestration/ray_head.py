"""Local Ray of the embedded mode: a token-protected head on the loopback address, in its own session."""

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
from windlass.kit.files import write_atomic
from windlass.orchestration import processes
from windlass.orchestration.supervisor import LockedProcess, ProcessState, SupervisedProcess
from windlass.runtime.net import is_listening
from windlass.serving.credentials import PROXY_CALLBACK, PROXY_CALLBACK_VARIABLE

_MODULE = "windlass_pipelines.train.ray_head"
_LOGICAL_CPUS = 10_000
"""More than any job requests, so that Ray never queues what Windlass has admitted."""
_OBJECT_STORE_BYTES = 300_000_000
_START_SECONDS = 120.0
_STOP_GRACE_SECONDS = 5.0
_MAX_TEMP_ROOT_BYTES = 22
"""Ray appends up to 85 bytes for its sockets, and Linux limits socket paths to 107 bytes (unix(7))."""


class LocalRay:
    """Implements ``ports.RayCluster``.

    Args:
        root: persistent folder: token, process record, log. One Ray per folder.
        python: interpreter with the ``train`` extra.
        temp_root: parent of Ray's temporary folder; default is the system's, or ``/tmp`` when that path is too long.
    """

    def __init__(self, root: Path, python: str, temp_root: Path | None = None) -> None:
        self._python = python
        key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
        self._temp = _short_temp_root(temp_root or Path(tempfile.gettempdir())) / f"wl-{key}"
        self._token = root / "token"
        self._process = SupervisedProcess(root, log_name="head.log")
        self._ready = self._temp / "address"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a child needs to join this Ray."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._token),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Otherwise a client replaces 127.0.0.1 with the host's external address, where Ray does not listen.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }

    def ensure(self) -> str:
        """Start Ray, or adopt one that an earlier server started; return its address.

        Raises:
            UnavailableError: Ray does not start; the message contains the end of its log.
        """
        with self._process.locked() as process:
            if process.state() is ProcessState.RUNNING and (address := self._address(process)):
                return address
            self._clear(process)
            self._start(process)
            if address := self._address(process):
                return address
            tail = process.log_tail()
            self._clear(process)
        raise UnavailableError(f"Ray does not start: {tail}", hint=f"see {process.log}")

    def address(self) -> str:
        """Return the address of the running Ray.

        Raises:
            UnavailableError: it does not run.
        """
        with self._process.existing() as process:
            if process is not None and process.state() is ProcessState.RUNNING:
                with contextlib.suppress(FileNotFoundError):
                    return self._ready.read_text(encoding="ascii")
        raise UnavailableError("Ray is not ready", hint="the run is submitted when it is")

    def stop(self) -> None:
        """Kill all processes of this Ray and delete its temporary files."""
        with self._process.existing() as process:
            if process is not None:
                self._clear(process)

    def _start(self, process: LockedProcess) -> None:
        _private_folder(self._temp)
        write_atomic(self._token, secrets.token_hex(32), mode=0o600)
        process.log.unlink(missing_ok=True)
        # Ray makes its folder world-accessible, so it is created inside a private one.
        argv = [self._python, "-m", _MODULE, "--temp-dir", str(self._temp / "r"), "--ready", str(self._ready)]
        argv += ["--cpus", str(_LOGICAL_CPUS), "--object-store-bytes", str(_OBJECT_STORE_BYTES)]
        process.start(argv, self._head_environment())

    def _head_environment(self) -> Mapping[str, str]:
        # By default, OpenMP threads spin while they wait. On a busy machine a step with two threads then takes many
        # times as long as with one.
        wait_policy = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
        return processes.clean_environment(
            {
                **self.environment(),
                "TMPDIR": str(self._temp.parent),
                "OMP_WAIT_POLICY": wait_policy,
                # Serve's HTTP proxy inherits it from the head and refuses requests without a credential.
                PROXY_CALLBACK_VARIABLE: PROXY_CALLBACK,
            }
        )

    def _address(self, process: LockedProcess) -> str | None:
        """Wait until the head is ready; None when its process is not running."""
        deadline = time.monotonic() + _START_SECONDS
        while process.state() is ProcessState.RUNNING and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                address = self._ready.read_text(encoding="ascii")
                if is_listening(address):
                    return address
            time.sleep(0.05)
        return None

    def _clear(self, process: LockedProcess) -> None:
        process.clear(grace_seconds=_STOP_GRACE_SECONDS)
        if self._temp.exists():
            _private_folder(self._temp)
            shutil.rmtree(self._temp)


def _short_temp_root(folder: Path) -> Path:
    return folder if len(os.fsencode(folder)) <= _MAX_TEMP_ROOT_BYTES else Path("/tmp")  # noqa: S108 - the subfolder is private


def _private_folder(folder: Path) -> None:
    """Create a folder with mode 0700; refuse one that another user may have created in the shared parent."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise UnavailableError(f"{folder} is not a private folder of this user", hint="remove it and retry")
