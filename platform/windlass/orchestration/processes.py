"""Processes that outlive the server which started them: identity, start, liveness, and the end of all below them.

A process is known by pid, start time and boot (a pid alone is used again). Each started process also gets a *family*:
an environment variable whose name is unique and which its descendants inherit, so that they are found in ``/proc``
when their parents are gone, when they moved to sessions of their own, and when the starter died before it wrote the
pid down.
"""

import contextlib
import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from windlass.domain.errors import ConflictError, UnavailableError

_FAMILY_PREFIX = "WINDLASS_FAMILY_"
_KEPT = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "CUDA_HOME",
    }
)
_KEPT_PREFIXES = ("LC_", "OMP_", "MKL_", "CUDA_VISIBLE_", "NVIDIA_VISIBLE_", _FAMILY_PREFIX)
_FRESH_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_POLL_SECONDS = 0.02


class ProcessRecord(BaseModel):
    """What is written down of a started process. Without ``pid`` it is a claim: the process may or may not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    family: str
    boot: str
    pid: int | None = None
    started: int | None = None
    """Start time in clock ticks since boot: field 22 of ``/proc/<pid>/stat``, see proc(5)."""

    def save(self, path: Path, *, exclusive: bool = False) -> None:
        """Write atomically; the reader sees a whole record or none.

        Raises:
            FileExistsError: ``exclusive`` and there is a record.
        """
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with draft.open("w", encoding="utf-8") as stream:
                stream.write(self.model_dump_json())
                stream.flush()
                os.fsync(stream.fileno())
            if exclusive:
                os.link(draft, path)
            else:
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "ProcessRecord | None":
        """Read a record, None when there is none."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class _Seen:
    """One line of ``/proc/<pid>/stat``."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def running(self) -> bool:
        return self.state not in "ZX"


def claim() -> ProcessRecord:
    """Return a record for a process that is about to be started."""
    return ProcessRecord(family=secrets.token_hex(16), boot=_boot())


def clean_environment(extra: Mapping[str, str], source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for a child: what programs need to run here, no secret, no proxy, plus ``extra``."""
    kept = {name: value for name, value in source.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    # Modules in the folder where the user happens to stand must not shadow the child's.
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **extra}


def start(argv: Sequence[str], *, environment: Mapping[str, str], log: Path, record: ProcessRecord) -> ProcessRecord:
    """Start ``argv`` in a session of its own, output appended to ``log`` (0600), and return ``record`` with its pid.

    Args:
        argv: the absolute path of a program and its arguments; no shell sees them.
        environment: all that the child gets (``clean_environment``), besides its family.
        log: file for standard output and error.
        record: a claim, so that the process can be found if this one dies before the record is saved.

    Raises:
        UnavailableError: the program cannot be started.
    """
    marked = {**environment, _FAMILY_PREFIX + record.family: "1"}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # posix_spawn and not Popen: the handle is the record, there is no object whose end would warn or reap.
        pid = os.posix_spawn(
            argv[0], list(argv), marked, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_FRESH_SIGNALS
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {argv[0]}: {error.strerror}") from error
    seen = _look(pid)
    return record.model_copy(update={"pid": pid, "started": seen.started if seen else 0})


def alive(record: ProcessRecord) -> bool:
    """Tell whether the process itself runs (a zombie does not); reaps it when it is this process's child."""
    seen = _identified(record)
    if seen is not None and not seen.running:
        _reap(seen.pid)
    return seen is not None and seen.running


def exit_code(record: ProcessRecord) -> int | None:
    """Return the exit code of a child of this process once it has ended (minus the signal that ended it), else None.

    Raises:
        ChildProcessError: it is not a child, or its end has been seen before.
    """
    if record.pid is None:
        raise ChildProcessError("a claim has no process")
    pid, status = os.waitpid(record.pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def find(record: ProcessRecord) -> ProcessRecord:
    """Return a claim completed by the running process that it led to; the claim itself when there is none."""
    if record.pid is not None or record.boot != _boot():
        return record
    marked = [seen for seen in _processes() if seen.running and _has_mark(seen.pid, record.family)]
    first = min(marked, key=lambda seen: (seen.started, seen.pid), default=None)
    return record if first is None else record.model_copy(update={"pid": first.pid, "started": first.started})


def members(record: ProcessRecord) -> list[int]:
    """Return the pids of the process and everything that it and its descendants started, wherever they moved."""
    return [seen.pid for seen in _family(record)]


def send(record: ProcessRecord, number: signal.Signals) -> None:
    """Signal the process alone; nothing happens when it is gone."""
    if alive(record) and record.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


def kill(record: ProcessRecord, *, grace_seconds: float = 0.0, limit_seconds: float = 20.0) -> None:
    """End the whole family: SIGTERM to the process and time to obey if asked for, then SIGKILL until none is left.

    Raises:
        UnavailableError: something of it is still there after ``limit_seconds`` (uninterruptible I/O).
    """
    if grace_seconds > 0:
        send(record, signal.SIGTERM)
        wait(record, grace_seconds)
    deadline = time.monotonic() + limit_seconds
    while family := _family(record):
        if time.monotonic() > deadline:
            raise UnavailableError(f"processes {[seen.pid for seen in family]} do not end")
        for seen in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    alive(record)


def wait(record: ProcessRecord, seconds: float) -> bool:
    """Wait for the process to end; tell whether it did."""
    deadline = time.monotonic() + seconds
    while alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


@contextlib.contextmanager
def exclusive(folder: Path, *, wait_for_it: bool = False, name: str = "lock") -> Iterator[None]:
    """Hold ``folder`` for this process alone, by flock on a file in it; the kernel lets go when the holder dies.

    Raises:
        ConflictError: another holds it and ``wait_for_it`` is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait_for_it else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ConflictError(
                f"{folder} is in use by another process", hint="stop that one, or choose another folder"
            ) from error
        yield
    finally:
        os.close(handle)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _look(pid: int) -> _Seen | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    fields = line.rpartition(")")[2].split()
    return _Seen(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _identified(record: ProcessRecord) -> _Seen | None:
    if record.pid is None or record.boot != _boot():
        return None
    seen = _look(record.pid)
    return seen if seen is not None and seen.started == record.started else None


def _processes() -> Iterator[_Seen]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (seen := _look(int(entry.name))) is not None:
            yield seen


def _has_mark(pid: int, family: str) -> bool:
    try:
        return f"{_FAMILY_PREFIX}{family}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _family(record: ProcessRecord) -> list[_Seen]:
    """Find its session, the marked and whatever hangs on these: setting a title may overwrite the mark in ``/proc``."""
    if record.boot != _boot():
        return []
    seen_now = list(_processes())
    running = [seen for seen in seen_now if seen.running]
    found = {s.pid: s for s in running if _in_session(s, record, seen_now) or _has_mark(s.pid, record.family)}
    while True:
        sessions = {seen.session for seen in found.values()} & found.keys()
        more = [s for s in running if s.pid not in found and (s.parent in found or s.session in sessions)]
        if not more:
            found.pop(os.getpid(), None)
            return list(found.values())
        found.update((seen.pid, seen) for seen in more)


def _in_session(seen: _Seen, record: ProcessRecord, seen_now: Sequence[_Seen]) -> bool:
    """Whether it is in the session that the process began; the kernel gives no pid away that is a session's number."""
    if seen.session != record.pid or record.started is None or seen.started < record.started:
        return False
    return all(other.started == record.started for other in seen_now if other.pid == record.pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
