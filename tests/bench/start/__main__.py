"""``python -m tests.bench.start``: time from submission to the first optimizer step, beside a bare RayJob.

With ``--warm`` a warm trainer waits for each job, and the peer is a plain Kubernetes Job without Ray. Both start on the
real node of the test cluster in turn, with the images present. The first pair is not counted.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.start import bare_ray_job, plain_job
from tests.cluster_demo.installation import API_PORT, SYSTEM_NAMESPACE, admin_key, install_charts, start_cluster
from tests.cluster_demo.recorder import Recorder
from tests.cluster_demo.waterfall import Stage, Waterfall
from tests.factories.small_jobs import SPEC, ensure_test_data
from tests.factories.tiny_models import tiny_encoder
from tests.integration.cluster import warm_trainers
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import kubectl
from tests.testcluster.layout import REPOSITORY, LocalCluster, default_cache, default_state
from tests.testcluster.node import POOL
from tests.testcluster.service_relay import relayed_service

from windlass.sdk import Client

PROJECT = "bench"
REPORT = REPOSITORY / "build" / "bench-start.md"
_TIMEOUT_SECONDS = 300
_LOADING_SECONDS = 20
"""How long a warm trainer whose program runs may load its libraries: nothing shows when it has."""


def main() -> int:
    """Measure, write the report, and delete what the benchmark created."""
    parser = argparse.ArgumentParser(prog="make bench-start", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="counted pairs of runs (default: 5)")
    parser.add_argument("--warm", action="store_true", help="a warm trainer waits for each job")
    options = parser.parse_args()
    cluster = LocalCluster(default_state(), default_cache())
    start_cluster(cluster, install=False)
    install_charts(cluster, PROJECT)
    waterfalls, peers = [], []
    try:
        with (
            relayed_service(cluster, SYSTEM_NAMESPACE, "windlass-api", API_PORT) as relay,
            tempfile.TemporaryDirectory() as folder,
            Client(url=f"http://{relay.address}", key=admin_key(cluster), project=PROJECT) as client,
        ):
            ensure_test_data(client, tiny_encoder(Path(folder) / "tiny"), Path(folder), PROJECT)
            for number in range(options.pairs + 1):
                if options.warm:
                    _wait_for_warm_trainer(cluster)
                waterfalls.append(_submit(cluster, client, f"start-{number}"))
                if options.warm:
                    warm_trainers.keep(cluster, PROJECT, POOL, 0)  # it would start beside the peer
                    peers.append(plain_job.seconds_to_first_step(cluster))
                else:
                    peers.append(bare_ray_job.seconds_to_first_step(cluster, _ray_version()))
                print(_pair(number, waterfalls[-1], peers[-1]), flush=True)  # noqa: T201 - the command's output
    finally:
        warm_trainers.keep(cluster, PROJECT, POOL, 0)
        kubectl(cluster, "delete", "namespace", bare_ray_job.NAMESPACE, "--ignore-not-found", "--wait=false")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(report(waterfalls[1:], peers[1:], "plain Job" if options.warm else "bare RayJob"), "utf-8")
    print(REPORT.read_text("utf-8"))  # noqa: T201 - as above
    return 0


def _wait_for_warm_trainer(cluster: LocalCluster) -> None:
    """Keep a warm trainer, and wait until it has loaded its libraries."""
    warm_trainers.keep(cluster, PROJECT, POOL, 1)
    eventually(lambda: warm_trainers.are_ready(cluster, PROJECT, 1), "a warm trainer waits", _TIMEOUT_SECONDS)
    time.sleep(_LOADING_SECONDS)


def _submit(cluster: LocalCluster, client: Client, name: str) -> Waterfall:
    """Start a job, wait for its first step, and cancel it."""
    recorder = Recorder(cluster, client, endpoint=name)
    recorder.start()
    resources, training = {"pool": POOL}, {**SPEC["training"], "max_steps": 100_000}
    job = client.jobs.create({**SPEC, "name": name, "model": name, "resources": resources, "training": training})
    try:
        eventually(lambda: recorder.waterfall.has(Stage.FIRST_STEP), "the first step is reported", _TIMEOUT_SECONDS)
    finally:
        recorder.stop()
        client.jobs.cancel(job.id)
        client.jobs.wait(job.id, timeout=_TIMEOUT_SECONDS)
    return recorder.waterfall


def _ray_version() -> str:
    import ray

    return str(ray.__version__)


def _pair(number: int, waterfall: Waterfall, peer: float) -> str:
    return f"pair {number}: Windlass {waterfall.seconds_to(Stage.FIRST_STEP):.1f} s, peer {peer:.1f} s"


def report(waterfalls: Sequence[Waterfall], peers: Sequence[float], peer: str) -> str:
    """Return the medians of the stages, and the ratio pair by pair, as Markdown."""
    steps = [each.seconds_to(Stage.FIRST_STEP) for each in waterfalls]
    ratio = statistics.median(one / other for one, other in zip(steps, peers, strict=True))
    until_step = list(Stage)[: list(Stage).index(Stage.FIRST_STEP) + 1]
    # a job that takes over a warm trainer creates no RayJob
    stages = [stage for stage in until_step if all(each.has(stage) for each in waterfalls)]
    rows = [f"| {stage} | {statistics.median(each.seconds_to(stage) for each in waterfalls):.1f} |" for stage in stages]
    return "\n".join(
        [
            f"Median of {len(steps)} runs in turn, in seconds since the submission:",
            "",
            "| stage | Windlass |",
            "|---|---|",
            *rows,
            "",
            f"First optimizer step of a {peer}: {statistics.median(peers):.1f} s.",
            f"Median of the ratios Windlass / {peer}: {ratio:.2f}.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
