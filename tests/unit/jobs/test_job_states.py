"""The transitions of a job and what they record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from windlass.domain.errors import InvalidTransitionError
from windlass.domain.jobs import MOVES, UNFINISHED_STATES, Job, JobState, Reason, RunState, move
from windlass.domain.specs import JobSpec, Task

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1)
REASON, OTHER = Reason(code="one", message="one"), Reason(code="other", message="other")
TERMINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def job(state: JobState, **more: Any) -> Job:
    return Job(
        id="job",
        project="ours",
        spec=JobSpec(task=Task.CHAT, base_model="tiny", dataset="reviews", model="assistant"),
        state=state,
        dataset_version="dsv",
        dataset_ref="reviews@1",
        base_model="bm",
        world_size=1,
        created_by="somebody",
        created_at=BEFORE,
        changed_at=BEFORE,
        **more,
    )


def changes(before: Job, after: Job) -> dict[str, Any]:
    return {name: value for name, value in after if value != getattr(before, name)}


def test_terminal_states_are_final() -> None:
    assert {state for state in JobState if state.terminal} == TERMINAL
    assert set(UNFINISHED_STATES) == set(JobState) - TERMINAL
    for state in TERMINAL:
        for to in set(JobState) - {state}:
            with pytest.raises(InvalidTransitionError):
                move(job(state), to, NOW)


def test_no_other_transition_is_valid_than_those_of_the_table() -> None:
    for state in JobState:
        for to in set(JobState) - {state}:
            if to in MOVES[state]:
                assert move(job(state), to, NOW).state is to
            else:
                with pytest.raises(InvalidTransitionError, match=f"job job is {state}; it cannot become {to}"):
                    move(job(state), to, NOW)


def test_a_transition_replaces_the_reason() -> None:
    before = job(JobState.STARTING, reason=REASON)
    assert move(before, JobState.CANCELLING, NOW, OTHER).reason == OTHER
    after = move(before, JobState.CANCELLING, NOW)
    assert changes(before, after) == {"state": JobState.CANCELLING, "reason": None, "changed_at": NOW}


def test_a_transition_to_the_same_state_changes_only_the_reason() -> None:
    before = job(JobState.RUNNING, reason=REASON)
    assert move(before, JobState.RUNNING, NOW) is before
    assert move(before, JobState.RUNNING, NOW, REASON) is before
    assert changes(before, move(before, JobState.RUNNING, NOW, OTHER)) == {"reason": OTHER}
    without = job(JobState.RUNNING)
    assert move(without, JobState.RUNNING, NOW, REASON).reason == REASON


@pytest.mark.parametrize(
    ("state", "to", "field"),
    [
        (JobState.STARTING, JobState.QUEUED, "queued_at"),
        (JobState.STARTING, JobState.RUNNING, "started_at"),
        (JobState.RUNNING, JobState.SUCCEEDED, "finished_at"),
        (JobState.RUNNING, JobState.FAILED, "finished_at"),
        (JobState.CANCELLING, JobState.CANCELLED, "finished_at"),
    ],
)
def test_a_transition_records_its_time(state: JobState, to: JobState, field: str) -> None:
    before = job(state)
    assert changes(before, move(before, to, NOW)) == {"state": to, "changed_at": NOW, field: NOW}


def test_a_job_that_is_queued_or_started_again_keeps_its_times() -> None:
    before = job(JobState.STARTING, queued_at=BEFORE, started_at=BEFORE)
    for to in (JobState.QUEUED, JobState.RUNNING):
        assert changes(before, move(before, to, NOW)) == {"state": to, "changed_at": NOW}


def test_a_run_has_ended_in_every_state_but_pending_and_running() -> None:
    assert {state for state in RunState if not state.ended} == {RunState.PENDING, RunState.RUNNING}
