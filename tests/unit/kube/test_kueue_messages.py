"""Parsing of condition messages: the most severe cause, preemptors, and arbitrary text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube.test_kueue_explain import TOO_LARGE, UNUSED

from windlass.kube.kueue.messages import PendingCause, parse_pending_cause, parse_preemption
from windlass.kube.kueue.models import KubeCondition


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            f"{UNUSED}; couldn't assign flavors to pod set w: untolerated taint {{a b c}} in flavor a100",
            PendingCause.NO_FLAVOR,
        ),
        (f"{UNUSED}; {TOO_LARGE}", PendingCause.EXCEEDS),
    ],
)
def test_the_worst_of_several_pod_sets_counts(message: str, cause: PendingCause) -> None:
    condition = KubeCondition(type="QuotaReserved", status="False", message=message)
    assert parse_pending_cause(condition).cause is cause


def test_a_preemptor_without_a_path_is_still_known_by_its_uid() -> None:
    preempted_by = parse_preemption("Preempted to accommodate a workload (UID: u-1, JobUID: j-1) due to x")
    assert preempted_by is not None
    assert (preempted_by.uid, preempted_by.cluster_queue) == ("u-1", None)
    assert parse_preemption("The ClusterQueue is stopped") is None


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_message_can_be_parsed(message: str, reason: str) -> None:
    parse_pending_cause(KubeCondition(type="QuotaReserved", status="False", reason=reason, message=message))
    parse_preemption(message)
