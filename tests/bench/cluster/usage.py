"""What processes take: CPU seconds and resident memory, from /proc."""

import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from tests.bed import processes
from tests.bed.layout import Bed

_KUEUE = "--config=/controller_manager_config.yaml"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process's threads."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def parts(bed: Bed) -> dict[str, int]:
    """The processes of the cluster that work for an admission, by name."""
    found = {name: record.pid for name, record in processes.recorded(bed).items() if name.startswith(("kube-", "etcd"))}
    for one in psutil.process_iter(["pid", "cmdline"]):
        if _KUEUE in (one.info["cmdline"] or ()) and bed.cgroup in _cgroups(one.info["pid"]):
            found["kueue"] = one.info["pid"]
    return found


def _cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Meter:
    """CPU seconds that processes take from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids, self._began = dict(pids), time.perf_counter()
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def seconds(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._began
