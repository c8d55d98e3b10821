"""Windlass foresees what Kueue does: 200 random set-ups on a real cluster, each asked ten times.

The seed is printed; WINDLASS_BED_SEED plays another one. docs/reference/predictions.md has the table of a run.
"""

import os
from collections.abc import Iterator

import pytest
from tests.bed.cluster_api import ClusterApi
from tests.bed.fixture import command
from tests.bed.layout import Bed
from tests.integration.cluster.prediction.agreement import Tally
from tests.integration.cluster.prediction.forms import BareWorkloads, Jobs
from tests.integration.cluster.prediction.rehearsal import Rehearsal
from tests.integration.cluster.prediction.setups import groups

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
SEED = int(os.environ.get("WINDLASS_BED_SEED", "20261122"))
LEAST = 0.99


@pytest.fixture
def api(cluster: Bed) -> Iterator[ClusterApi]:
    with ClusterApi(cluster) as client:
        yield client
    ended = command(cluster, "reset")
    assert ended.returncode == 0, ended.stderr


def test_kueue_does_what_windlass_foresees(api: ClusterApi) -> None:
    tally = Tally()
    for group in groups("bare", SEED, [60, 60, 60]):
        Rehearsal(api, group, BareWorkloads()).play(tally)
    jobs = Jobs()
    jobs.make_priorities(api)
    for group in groups("jobs", SEED, [20]):
        Rehearsal(api, group, jobs).play(tally)
    report = f"seed {SEED}\n{tally}"
    print(report)  # noqa: T201 - the table of the documentation comes from here
    assert len(tally.setups) >= 200
    assert tally.share >= LEAST, report
