"""CPU seconds and resident memory of processes, from /proc."""

import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from tests.testcluster import processes
from tests.testcluster.layout import LocalCluster

_KUEUE_FLAG = "--config=/controller_manager_config.yaml"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process's threads."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def component_pids(cluster: LocalCluster) -> dict[str, int]:
    """The ids of the cluster's processes that take part in an admission, by name."""
    found = {
        name: record.pid
        for name, record in processes.process_records(cluster).items()
        if name.startswith(("kube-", "etcd"))
    }
    for one in psutil.process_iter(["pid", "cmdline"]):
        if _KUEUE_FLAG in (one.info["cmdline"] or ()) and cluster.cgroup in _cgroups(one.info["pid"]):
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
