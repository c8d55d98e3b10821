"""``python -m tests.bench.cluster``: measures the operators and Kueue with many projects and workloads."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.cluster import nodes, operator_metrics, report, startup, usage
from tests.bench.cluster.admission import Admissions, JobGenerator, Round, WorkloadGenerator
from tests.bench.cluster.changes import DisplayNameEdit, QuotaEdit, RateResult, measure_rate
from tests.bench.cluster.sizes import POOL, Sizes
from tests.charts.rendering import SYSTEM
from tests.integration.cluster.installed import RIGHTS, WORKER, chart_manifests, grant, install_crds
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.operator_process import OperatorProcess, wait_for_reason
from tests.integration.cluster.operator_process import pool as pool_ref
from tests.testcluster import lifecycle
from tests.testcluster.cluster_api import apply
from tests.testcluster.errors import EXIT_UNSUPPORTED
from tests.testcluster.fixture import command
from tests.testcluster.layout import REPOSITORY, LocalCluster, default_cache

_LEASE_SECONDS = "30"
"""Long, so that lease renewals do not fail on a loaded machine."""
_JOBS = 10
"""One in this many workloads is a Job with a pod, which costs several times as much."""


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output


def _operators(cluster: LocalCluster) -> OperatorProcess:
    log = cluster.log("windlass-operators")
    log.unlink(missing_ok=True)
    return OperatorProcess(
        cluster, log, NAMESPACE=SYSTEM, IMAGE="no-node-pulls-it", LEADER_LEASE_SECONDS=_LEASE_SECONDS
    )


def measure(cluster: LocalCluster, sizes: Sizes) -> report.Results:
    """Run all measurements, on a cluster without projects.

    Raises:
        AssertionError: the cluster did not reach an expected state.
        TimeoutError: the operators do not come to rest.
    """
    began, load = time.perf_counter(), os.getloadavg()[0]
    install_crds(cluster)
    apply(cluster, [namespace(SYSTEM), *chart_manifests(), *grant(WORKER, "bench-worker", *RIGHTS)])
    running = _operators(cluster)
    try:
        nodes.make(running.client, sizes)
        apply(cluster, [nodes.pool()])
        running.start_active()
        wait_for_reason(running.client, pool_ref(POOL), "Reconciled")
        operator_metrics.wait_idle(running)
        empty = usage.resident_mib(running.pid)
        running.stop()
        startup.make_projects(running.client, sizes)
        _print(f"{sizes.projects} projects are made")
        first = startup.measure_startup(running, sizes)
        _print(f"taken over in {first.seconds:.1f} s")
        running.stop()
        again = startup.measure_startup(running, sizes)
        _print(f"and again in {again.seconds:.1f} s")
        paces = _paces(running, sizes)
        rounds = _rounds(running, sizes)
    finally:
        running.stop()
    return report.Results(sizes, empty, first, again, paces, rounds, load, time.perf_counter() - began)


def _paces(running: OperatorProcess, sizes: Sizes) -> list[RateResult]:
    found, first = [], 0
    for change in (DisplayNameEdit, QuotaEdit):
        for rate in sizes.rates:
            found.append(measure_rate(running, sizes, change(), rate, first))
            first += found[-1].changes
            _print(f"{found[-1]}")
    return found


def _rounds(running: OperatorProcess, sizes: Sizes) -> list[Round]:
    admissions, found = Admissions(running, sizes), []
    half = sizes.workloads // 2
    for form, count in ((WorkloadGenerator(), half), (JobGenerator(), max(1, half // _JOBS))):
        for windlass in (True, False, False, True):
            found.append(admissions.play(form, count, windlass=windlass))
            _print(f"{found[-1]}")
    return found


def _parser() -> argparse.ArgumentParser:
    default = Sizes()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument(
        "--state", type=Path, default=REPOSITORY / ".testcluster-bench", help="state folder of the test cluster"
    )
    parser.add_argument("--projects", type=int, default=default.projects)
    parser.add_argument("--workloads", type=int, default=default.workloads, help="with Windlass, and as many without")
    parser.add_argument("--rates", type=int, nargs="+", default=default.rates, help="changes a second")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="how long each rate is kept")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench-cluster", help="without its suffix")
    return parser


def _up(cluster: LocalCluster) -> None:
    started: subprocess.CompletedProcess[str] = command(cluster, "up")
    if started.returncode:
        _print(started.stderr.strip())
        sys.exit(EXIT_UNSUPPORTED if started.returncode == EXIT_UNSUPPORTED else 1)


def main() -> int:
    """Measure, print and store the results; stops the cluster afterwards unless it was up before."""
    chosen = _parser().parse_args()
    sizes = Sizes(chosen.projects, chosen.workloads, tuple(chosen.rates), chosen.seconds)
    cluster = LocalCluster(chosen.state.resolve(), default_cache())
    was_up = lifecycle.is_up(cluster)
    if not was_up:
        _up(cluster)
    try:
        results = measure(cluster, sizes)
    finally:
        if not was_up:
            command(cluster, "down")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.with_suffix(".json").write_text(report.to_json(results), "utf-8")
    chosen.out.with_suffix(".md").write_text(report.to_markdown(results), "utf-8")
    _print("\n" + report.to_markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
