"""Starts the cluster's programs, with a record file for each that later commands read."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from tests.testcluster import cgroups
from tests.testcluster.layout import STATE_MOUNT, LocalCluster
from tests.testcluster.prerequisites import SYSTEM_PATH

# Join the cgroups before the exec, and raise the limit of open files to the hard limit.
_STUB = 'for file in $1; do echo 0 >"$file" || exit 125; done; shift; ulimit -n "$(ulimit -H -n)"; exec "$@"'
ENVIRONMENT = {
    "PATH": f"{STATE_MOUNT / 'bin'}:{SYSTEM_PATH}",
    "HOME": str(STATE_MOUNT / "run" / "home"),
    "TMPDIR": str(STATE_MOUNT / "run" / "tmp"),
    "LANG": "C.UTF-8",
}
NAMESPACE_HOLDER = "namespaces"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """A started process; start time (clock ticks) and boot id distinguish it from a later one with the same pid."""

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
        """Resident bytes, 0 after its exit."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.alive else 0
        except psutil.NoSuchProcess:
            return 0


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat, see proc(5); None without such a process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in {"Z", "X"} else int(after_name[19])


def process_records(cluster: LocalCluster) -> dict[str, Record]:
    """The processes of the current start, in start order."""
    records = [Record(**json.loads(path.read_text("utf-8"))) for path in cluster.records.glob("*.json")]
    return {record.name: record for record in sorted(records, key=lambda record: (record.started, record.pid))}


def delete_record(cluster: LocalCluster, name: str) -> None:
    """Delete the record of a process that was stopped on purpose."""
    (cluster.records / f"{name}.json").unlink()


def nsenter_command(cluster: LocalCluster, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in the cluster's namespaces."""
    holder = process_records(cluster)[NAMESPACE_HOLDER]
    return ["nsenter", "--target", str(holder.pid), "--mount", "--net", "--wd=/", "--", *command]


def start(
    cluster: LocalCluster,
    name: str,
    command: Sequence[str],
    *,
    in_namespaces: bool = True,
    cwd: Path | None = None,
    fds: Sequence[int] = (),
) -> Record:
    """Start a program in the cluster's cgroup and, with ``in_namespaces``, its namespaces; it outlives this process."""
    argv = nsenter_command(cluster, command) if in_namespaces else list(command)
    procs_files = " ".join(map(str, cgroups.procs_files(cluster)))
    with cluster.log(name).open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", _STUB, "join", procs_files, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd or "/",
            env=ENVIRONMENT,
            start_new_session=True,
            pass_fds=fds,
        )
    record = Record(name, process.pid, start_ticks(process.pid) or 0, _BOOT.read_text("ascii").strip(), list(command))
    draft = cluster.records / f".{name}.draft"
    draft.write_text(json.dumps(asdict(record)), "utf-8")
    draft.rename(cluster.records / f"{name}.json")
    return record


def run_inside(cluster: LocalCluster, *command: str) -> str:
    """Run a program in the namespaces, and return its standard output.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    ended = subprocess.run(
        nsenter_command(cluster, command), env=ENVIRONMENT, cwd="/", check=True, capture_output=True, text=True
    )
    return ended.stdout


def listening(cluster: LocalCluster, name: str, port: int) -> bool:
    """Whether a program runs and its network namespace has a listener on a TCP port."""
    record = process_records(cluster)[name]
    sockets: list[str] = []
    for table in ("tcp", "tcp6"):
        try:
            sockets += Path(f"/proc/{record.pid}/net/{table}").read_text("ascii").splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            return False
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, sockets))
