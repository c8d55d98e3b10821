"""Predictions match Kueue's decisions: random setups on a real cluster, ten rounds each.

CI plays 80 setups, `make predictions` 200. The seed is printed; WINDLASS_TESTCLUSTER_SEED selects another one.
docs/explanation/predictions.md has the results of a run.
"""

import os
from collections.abc import Iterator

import pytest
from tests.integration.cluster.prediction.agreement import Tally
from tests.integration.cluster.prediction.forms import BareWorkloads, QueuedJobs
from tests.integration.cluster.prediction.prediction_run import PredictionRun
from tests.integration.cluster.prediction.setups import groups
from tests.testcluster.cluster_api import ClusterApi
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
SEED = int(os.environ.get("WINDLASS_TESTCLUSTER_SEED", "20261122"))
LEAST = 0.99
ALL = os.environ.get("WINDLASS_TESTCLUSTER_SETUPS") == "all"
BARE, JOBS = ([60, 60, 60] if ALL else [60]), [20]
"""Sizes of the groups of setups that are played at the same time. The sample is the first groups of all."""


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


def test_kueue_decides_as_predicted(api: ClusterApi) -> None:
    tally = Tally()
    for group in groups("bare", SEED, BARE):
        PredictionRun(api, group, BareWorkloads()).play(tally)
    jobs = QueuedJobs()
    jobs.make_priorities(api)
    for group in groups("jobs", SEED, JOBS):
        PredictionRun(api, group, jobs).play(tally)
    report = f"seed {SEED}\n{tally}"
    print(report)  # noqa: T201 - the table of the documentation comes from here
    assert len(tally.setups) == sum(BARE) + sum(JOBS)
    assert tally.share >= LEAST, report
