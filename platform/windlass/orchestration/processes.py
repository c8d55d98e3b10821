"""Processes that outlive the server that started them: identity, start, liveness, and termination of their trees.

A process is identified by pid, start time and boot id, because pids are reused. Each started process also gets a tree
id: an environment variable with a unique name that its descendants inherit. It identifies them in ``/proc`` when their
parents have exited, when they run in other sessions, and when the starter died before it recorded the pid.
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
from windlass.kit.files import make_folder, write_atomic

_TREE_PREFIX = "WINDLASS_PROCESS_TREE_"
_INHERITED = frozenset(
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
_SANDBOX_INHERITED = frozenset({"PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH"})
_INHERITED_PREFIXES = ("LC_", "OMP_", "MKL_", "CUDA_VISIBLE_", "NVIDIA_VISIBLE_", _TREE_PREFIX)
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_POLL_SECONDS = 0.02
_REAP_SECONDS = 1.0


class ProcessRecord(BaseModel):
    """Identity of a started process. Without ``pid`` the record is pending: the process may or may not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tree_id: str
    boot: str
    pid: int | None = None
    started: int | None = None
    """Start time in clock ticks since boot: field 22 of ``/proc/<pid>/stat``, see proc(5)."""
    exit_code: int | None = None
    """Set by the server that reaped the process; None while it runs, and when another server's child exited."""

    @property
    def of_this_boot(self) -> bool:
        """Whether the machine has not restarted since."""
        return self.boot == _boot()

    def save(self, path: Path) -> None:
        """Write atomically; durable when this returns."""
        write_atomic(path, self.model_dump_json())

    @classmethod
    def load(cls, path: Path) -> "ProcessRecord | None":
        """Read a record; None when the file does not exist."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class _ProcessInfo:
    """Fields of ``/proc/<pid>/stat``."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def running(self) -> bool:
        return self.state not in "ZX"


def new_record() -> ProcessRecord:
    """Return a pending record for a process that is about to be started."""
    return ProcessRecord(tree_id=secrets.token_hex(16), boot=_boot())


def clean_environment(extra: Mapping[str, str], source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for a child: allowed variables of ``source`` (no secrets, no proxies) plus ``extra``."""
    inherited = {
        name: value for name, value in source.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    # PYTHONSAFEPATH: modules in the current directory must not shadow the child's.
    return {**inherited, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **extra}


def sandbox_environment(source: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment for a child that parses untrusted files: nothing about the user or the machine."""
    inherited = {
        name: value for name, value in source.items() if name in _SANDBOX_INHERITED or name.startswith(_TREE_PREFIX)
    }
    return {**inherited, "PYTHONSAFEPATH": "1", "LANG": "C.UTF-8"}


def start(argv: Sequence[str], *, environment: Mapping[str, str], log: Path, record: ProcessRecord) -> ProcessRecord:
    """Start ``argv`` in a new session, append its output to ``log`` (0600), and return ``record`` with its pid.

    Args:
        argv: absolute path of the program and its arguments; no shell is involved.
        environment: the whole environment of the child (``clean_environment``), except for its tree id.
        log: file for standard output and error.
        record: a pending record, saved before, so that the process can be located if this one dies.

    Raises:
        UnavailableError: the program cannot be started.
    """
    child_environment = {**environment, _TREE_PREFIX + record.tree_id: "1"}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        # not Popen: its finalizer would warn about or reap a process that outlives this one
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            child_environment,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {argv[0]}: {error.strerror}") from error
    info = _read_stat(pid)
    return record.model_copy(update={"pid": pid, "started": info.started if info else 0})


def is_alive(record: ProcessRecord) -> bool:
    """Return whether the process runs (a zombie does not); reap it when it is a child of this process."""
    if is_running(record):
        return True
    reap(record)
    return False


def is_running(record: ProcessRecord) -> bool:
    """Return whether the process runs, without reaping it."""
    info = _find_process(record)
    return info is not None and info.running


def reap(record: ProcessRecord) -> int | None:
    """Release the zombie of an exited child of this process; return its exit code, None when there is none."""
    info = _find_process(record)
    if info is None or info.running:
        return None
    deadline = time.monotonic() + _REAP_SECONDS
    with contextlib.suppress(ChildProcessError):
        # The first thread of a process is a zombie before the kernel has ended the others.
        while (code := exit_code(record)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 10)
        return code
    return None


def exit_code(record: ProcessRecord) -> int | None:
    """Return the exit code of a child of this process (-N after signal N), or None while it runs.

    Raises:
        ChildProcessError: it is not a child, or has been reaped.
    """
    if record.pid is None:
        raise ChildProcessError("a pending record has no process")
    pid, status = os.waitpid(record.pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def locate(record: ProcessRecord) -> ProcessRecord:
    """Complete a pending record with the pid of its running process; return it unchanged when there is none."""
    if record.pid is not None or record.boot != _boot():
        return record
    tree = [info for info in _processes() if info.running and _has_tree_id(info.pid, record.tree_id)]
    first = min(tree, key=lambda info: (info.started, info.pid), default=None)
    return record if first is None else record.model_copy(update={"pid": first.pid, "started": first.started})


def pids(record: ProcessRecord) -> list[int]:
    """Return the pids of the process and all its descendants, in any session."""
    return [info.pid for info in _process_tree(record)]


def send_signal(record: ProcessRecord, number: signal.Signals) -> None:
    """Signal the process only; a no-op when it has exited."""
    if is_alive(record) and record.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


def kill(record: ProcessRecord, *, grace_seconds: float = 0.0, limit_seconds: float = 20.0) -> None:
    """Terminate the process tree: SIGTERM to the process, grace period, then SIGKILL until no process is left.

    Raises:
        UnavailableError: a process still exists after ``limit_seconds`` (uninterruptible I/O).
    """
    if grace_seconds > 0:
        send_signal(record, signal.SIGTERM)
        wait(record, grace_seconds)
    deadline = time.monotonic() + limit_seconds
    while tree := _process_tree(record):
        if time.monotonic() > deadline:
            raise UnavailableError(f"processes {[info.pid for info in tree]} do not exit")
        for info in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(info.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    is_alive(record)


def wait(record: ProcessRecord, seconds: float) -> bool:
    """Wait up to ``seconds`` for the process to exit; return whether it did."""
    deadline = time.monotonic() + seconds
    while is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


@contextlib.contextmanager
def lock_folder(
    folder: Path, *, blocking: bool = False, name: str = "lock", create: bool = True, mode: int = 0o700
) -> Iterator[None]:
    """Hold an exclusive flock on a file in ``folder``; the kernel releases it when the process dies.

    Args:
        folder: created with ``mode`` when it does not exist and ``create`` is set.
        blocking: wait for another holder.
        name: name of the lock file.
        create: without it, a missing folder is an error.
        mode: mode of a new folder.

    Raises:
        ConflictError: another process holds the lock and ``blocking`` is not set.
        FileNotFoundError: the folder does not exist and ``create`` is not set.
    """
    while True:
        if create:
            make_folder(folder, mode=mode)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise ConflictError(
                    f"{folder} is in use by another process", hint="stop that process, or choose another folder"
                ) from error
            # The holder that this call waited for may have deleted the folder, and the lock file with it.
            if _is_open_file(folder / name, handle):
                yield
                return
        finally:
            os.close(handle)


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _read_stat(pid: int) -> _ProcessInfo | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program name in parentheses, which may contain blanks and parentheses.
    fields = line.rpartition(")")[2].split()
    return _ProcessInfo(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def _find_process(record: ProcessRecord) -> _ProcessInfo | None:
    if record.pid is None or record.boot != _boot():
        return None
    info = _read_stat(record.pid)
    return info if info is not None and info.started == record.started else None


def _processes() -> Iterator[_ProcessInfo]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (info := _read_stat(int(entry.name))) is not None:
            yield info


def _has_tree_id(pid: int, tree_id: str) -> bool:
    try:
        return f"{_TREE_PREFIX}{tree_id}=".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _process_tree(record: ProcessRecord) -> list[_ProcessInfo]:
    """Collect its session, processes with its tree id, and their descendants.

    The tree id alone is not enough: a process that sets its title may overwrite its environment in ``/proc``.
    """
    if record.boot != _boot():
        return []
    snapshot = list(_processes())
    running = [info for info in snapshot if info.running]
    tree = {s.pid: s for s in running if _in_session(s, record, snapshot) or _has_tree_id(s.pid, record.tree_id)}
    while True:
        sessions = {info.session for info in tree.values()} & tree.keys()
        more = [s for s in running if s.pid not in tree and (s.parent in tree or s.session in sessions)]
        if not more:
            tree.pop(os.getpid(), None)
            return list(tree.values())
        tree.update((info.pid, info) for info in more)


def _in_session(info: _ProcessInfo, record: ProcessRecord, snapshot: Sequence[_ProcessInfo]) -> bool:
    """Return whether it is in the session of the record; the kernel does not reuse the id of a live session."""
    if info.session != record.pid or record.started is None or info.started < record.started:
        return False
    return all(other.started == record.started for other in snapshot if other.pid == record.pid)
