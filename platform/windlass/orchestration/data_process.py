"""The embedded DataProcessor: one child process per request, in its own process group and without secrets.

A request's folder holds ``request.json``, ``process.json`` (pid and start time), ``log`` and ``alive``. The child
inherits an exclusive lock on ``alive``, so that whoever looks, this server or a later one, knows whether it lives:
the kernel drops the lock with the last process that holds it, also after ``kill -9``.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
from pydantic import ValidationError

from windlass.domain.artifacts import check_relative_path
from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.errors import InvalidError, NotFoundError, UnavailableError

_MODULE = "windlass_pipelines.data"
_RESULT_NAME = "result.json"
_RESULT_BYTES = 64 << 20
_LAST_WORDS = 2000
_END_SECONDS = 10.0
_INHERITED = ("PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH")


class EmbeddedDataProcessor:
    """Runs ``python -m windlass_pipelines.data`` under ``root``; ``python`` is the interpreter that has it."""

    def __init__(self, root: Path, python: str = sys.executable) -> None:
        self._root, self._python = root, python
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def start(self, name: str, request: DataRequest) -> None:
        """Begin, or do nothing when ``name`` was begun before, by whichever server."""
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (folder / "alive").open("ab") as alive:
            if not _try_lock(alive, fcntl.LOCK_EX) or (folder / "process.json").exists():
                return
            (Path(request.output) / _RESULT_NAME).unlink(missing_ok=True)
            _write(folder / "request.json", request.model_dump_json())
            child = self._spawn(folder, alive)
            self._children[name] = child
            _write(folder / "process.json", json.dumps({"pid": child.pid, "started": _started(child.pid)}))

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs.

        Raises:
            NotFoundError: it was never begun, or is forgotten.
            UnavailableError: the process died without a result; its last words are in the message.
        """
        folder = self._folder(name)
        request = folder / "request.json"
        if not request.exists():
            raise NotFoundError(f"no data process {name}")
        alive = _is_held(folder / "alive")  # before the look for a result: it may finish in between
        try:
            output = Path(DataRequest.model_validate_json(request.read_bytes()).output)
            result = _read_result(output / _RESULT_NAME)
        except (ValidationError, OSError) as error:
            # The child read a tenant's bytes: what it leaves behind is trusted no more than they are.
            raise UnavailableError("the data process left a result that cannot be read") from error
        if result is not None:
            return result
        if alive:
            return None
        raise UnavailableError(
            f"the data process {self._end_of(name)}: {_last_words(folder / 'log')}",
            hint="try again; if it happens again with the same files, they make the parser fail",
        )

    def forget(self, name: str) -> None:
        """End its process group if it lives, and drop the folder; the output stays."""
        folder = self._folder(name)
        if folder.exists():
            self._end(folder)
            shutil.rmtree(folder)
        with self._lock:
            child = self._children.pop(name, None)
        if child is not None:
            child.wait()

    def _end(self, folder: Path) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while _is_held(folder / "alive"):
            for pid in _pids(folder):
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise UnavailableError(f"the data process {folder.name} does not end")
            time.sleep(0.01)

    def _folder(self, name: str) -> Path:
        try:
            check_relative_path(name)
        except ValueError:
            raise InvalidError(f"not a name of a data process: {name!r}") from None
        return self._root / name.replace("/", "~")

    def _spawn(self, folder: Path, alive: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(
                [self._python, "-P", "-m", _MODULE, str(folder / "request.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**environment, "LANG": "C.UTF-8"},
                pass_fds=(alive.fileno(),),
                start_new_session=True,
            )

    def _end_of(self, name: str) -> str:
        child = self._children.get(name)
        status = child.poll() if child is not None else None
        if status is None:
            return "died"
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _pids(folder: Path) -> list[int]:
    """Return the process group of the request: by its record, or by its command line if the record is missing."""
    with suppress(FileNotFoundError):
        record = json.loads((folder / "process.json").read_bytes())
        return [record["pid"]] if _started(record["pid"]) == record["started"] else []
    request = str(folder / "request.json")
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if (process.info["cmdline"] or [""])[-1] == request]


def _started(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _try_lock(alive: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(alive, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(alive: Path) -> bool:
    with alive.open("ab") as stream:
        return not _try_lock(stream, fcntl.LOCK_SH)  # shared: two who look do not see each other


def _read_result(path: Path) -> DataResult | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(_RESULT_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > _RESULT_BYTES:
        raise UnavailableError(f"the data process wrote a result of more than {_RESULT_BYTES} bytes")
    return DataResult.model_validate_json(content)


def _last_words(log: Path) -> str:
    if not log.exists():
        return "it said nothing"
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LAST_WORDS))
        words = stream.read().decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() or char == "\n" else " " for char in words) or "it said nothing"


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
