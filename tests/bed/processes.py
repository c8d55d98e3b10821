"""Starts the bed's programs and writes each down, so that any later command knows what runs."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from tests.bed import cgroups
from tests.bed.layout import INSIDE, Bed
from tests.bed.needs import SEARCHED

# Join each cgroup before the program exists; the limit of open files is the highest that the machine gives.
_STUB = 'for door in $1; do echo 0 >"$door" || exit 125; done; shift; ulimit -n "$(ulimit -H -n)"; exec "$@"'
ENVIRONMENT = {
    "PATH": f"{INSIDE / 'bin'}:{SEARCHED}",
    "HOME": str(INSIDE / "life" / "home"),
    "TMPDIR": str(INSIDE / "life" / "tmp"),
    "LANG": "C.UTF-8",
}
HOLDER = "namespaces"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """A started process. The start time, in clock ticks, and the boot tell it from a later one of the same id."""

    name: str
    pid: int
    started: int
    boot: str
    command: list[str]

    @property
    def alive(self) -> bool:
        return _BOOT.read_text("ascii").strip() == self.boot and start_ticks(self.pid) == self.started

    @property
    def memory(self) -> int:
        """Resident bytes, 0 of an ended one."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.alive else 0
        except psutil.NoSuchProcess:
            return 0


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat, see proc(5); None when nothing runs under this id."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in {"Z", "X"} else int(after_name[19])


def recorded(bed: Bed) -> dict[str, Record]:
    """Every process that the bed started in this life, in the order of starting."""
    records = [Record(**json.loads(path.read_text("utf-8"))) for path in bed.records.glob("*.json")]
    return {record.name: record for record in sorted(records, key=lambda record: (record.started, record.pid))}


def forget(bed: Bed, name: str) -> None:
    """Strike out a process that was ended on purpose."""
    (bed.records / f"{name}.json").unlink()


def entering(bed: Bed, command: Sequence[str]) -> list[str]:
    """A command line that runs ``command`` in the namespaces of the bed."""
    holder = recorded(bed)[HOLDER]
    return ["nsenter", "--target", str(holder.pid), "--mount", "--net", "--wd=/", "--", *command]


def start(
    bed: Bed,
    name: str,
    command: Sequence[str],
    *,
    inside: bool = True,
    cwd: Path | None = None,
    fds: Sequence[int] = (),
) -> Record:
    """Start a program that outlives this one, in the bed's cgroup and, unless told otherwise, its namespaces."""
    argv = entering(bed, command) if inside else list(command)
    doors = " ".join(map(str, cgroups.doors(bed)))
    with bed.log(name).open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", _STUB, "join", doors, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd or "/",
            env=ENVIRONMENT,
            start_new_session=True,
            pass_fds=fds,
        )
    record = Record(name, process.pid, start_ticks(process.pid) or 0, _BOOT.read_text("ascii").strip(), list(command))
    draft = bed.records / f".{name}.draft"
    draft.write_text(json.dumps(asdict(record)), "utf-8")
    draft.rename(bed.records / f"{name}.json")
    return record


def run_inside(bed: Bed, *command: str) -> str:
    """Run a program in the namespaces to its end, and return what it said.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    ended = subprocess.run(entering(bed, command), env=ENVIRONMENT, cwd="/", check=True, capture_output=True, text=True)
    return ended.stdout


def listening(bed: Bed, name: str, port: int) -> bool:
    """Whether a program runs and somebody in its network namespace listens on a TCP port."""
    record = recorded(bed)[name]
    sockets: list[str] = []
    for table in ("tcp", "tcp6"):
        try:
            sockets += Path(f"/proc/{record.pid}/net/{table}").read_text("ascii").splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            return False
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, sockets))
