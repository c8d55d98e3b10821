"""``python -m tests.bench.cluster``: makes projects and workloads on a bed and measures what becomes of them."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bed import lifecycle
from tests.bed.cluster_api import apply
from tests.bed.failures import UNABLE
from tests.bed.fixture import command
from tests.bed.layout import REPOSITORY, Bed, default_cache
from tests.bench.cluster import counting, nodes, report, take_over, usage
from tests.bench.cluster.admission import Admissions, Bare, Jobs, Round
from tests.bench.cluster.changes import Pace, Quotas, Words, paced
from tests.bench.cluster.sizes import POOL, Sizes
from tests.integration.cluster.installed import RIGHTS, SYSTEM, WORKER, define, may, shipped
from tests.integration.cluster.objects import namespace
from tests.integration.cluster.operating import Operators, becomes
from tests.integration.cluster.operating import pool as pool_ref

_LEASE_SECONDS = "30"
"""On a machine that is loaded on purpose the lease shall not be what is measured."""
_JOBS = 10
"""One in so many workloads comes as a Job with a pod, which costs several times as much."""


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output


def _operators(bed: Bed) -> Operators:
    log = bed.log("windlass-operators")
    log.unlink(missing_ok=True)
    return Operators(bed, log, NAMESPACE=SYSTEM, IMAGE="no-node-pulls-it", LEASE_SECONDS=_LEASE_SECONDS)


def measure(bed: Bed, sizes: Sizes) -> report.Results:
    """Measure everything, on a bed that has no projects.

    Raises:
        AssertionError: something did not become what it should.
        TimeoutError: the operators do not come to rest.
    """
    began, load = time.perf_counter(), os.getloadavg()[0]
    define(bed)
    apply(bed, [namespace(SYSTEM), *shipped(), *may(WORKER, "bench-worker", *RIGHTS)])
    running = _operators(bed)
    try:
        nodes.make(running.client, sizes)
        apply(bed, [nodes.pool()])
        running.start_active()
        becomes(running.client, pool_ref(POOL), "Reconciled")
        counting.settle(running)
        empty = usage.resident_mib(running.pid)
        running.stop()
        take_over.make_projects(running.client, sizes)
        _say(f"{sizes.projects} projects are made")
        first = take_over.start_among(running, sizes)
        _say(f"taken over in {first.seconds:.1f} s")
        running.stop()
        again = take_over.start_among(running, sizes)
        _say(f"and again in {again.seconds:.1f} s")
        paces = _paces(running, sizes)
        rounds = _rounds(running, sizes)
    finally:
        running.stop()
    return report.Results(sizes, empty, first, again, paces, rounds, load, time.perf_counter() - began)


def _paces(running: Operators, sizes: Sizes) -> list[Pace]:
    found, first = [], 0
    for change in (Words, Quotas):
        for rate in sizes.rates:
            found.append(paced(running, sizes, change(), rate, first))
            first += found[-1].changes
            _say(f"{found[-1]}")
    return found


def _rounds(running: Operators, sizes: Sizes) -> list[Round]:
    admissions, found = Admissions(running, sizes), []
    half = sizes.workloads // 2
    for form, count in ((Bare(), half), (Jobs(), max(1, half // _JOBS))):
        for windlass in (True, False, False, True):
            found.append(admissions.play(form, count, windlass=windlass))
            _say(f"{found[-1]}")
    return found


def _parser() -> argparse.ArgumentParser:
    default = Sizes()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument("--state", type=Path, default=REPOSITORY / ".bed-bench", help="one bed a folder")
    parser.add_argument("--projects", type=int, default=default.projects)
    parser.add_argument("--workloads", type=int, default=default.workloads, help="with Windlass, and as many without")
    parser.add_argument("--rates", type=int, nargs="+", default=default.rates, help="changes a second")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="how long each rate is kept")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench-cluster", help="without its suffix")
    return parser


def _up(bed: Bed) -> None:
    started: subprocess.CompletedProcess[str] = command(bed, "up")
    if started.returncode:
        _say(started.stderr.strip())
        sys.exit(UNABLE if started.returncode == UNABLE else 1)


def main() -> int:
    """Measure, print and keep the results; a bed that was not up is ended afterwards."""
    chosen = _parser().parse_args()
    sizes = Sizes(chosen.projects, chosen.workloads, tuple(chosen.rates), chosen.seconds)
    bed = Bed(chosen.state.resolve(), default_cache())
    was_up = lifecycle.is_up(bed)
    if not was_up:
        _up(bed)
    try:
        results = measure(bed, sizes)
    finally:
        if not was_up:
            command(bed, "down")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.with_suffix(".json").write_text(report.to_json(results), "utf-8")
    chosen.out.with_suffix(".md").write_text(report.to_markdown(results), "utf-8")
    _say("\n" + report.to_markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
