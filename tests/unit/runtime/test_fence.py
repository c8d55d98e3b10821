"""Claiming the fence."""

from threading import Timer

import pytest
from tests.fakes.control_plane import FakeControlPlane

from windlass.domain.errors import AttemptHeldError, FencedError, UnavailableError
from windlass.runtime.client import RunClient, claim_fence
from windlass.runtime.context import CONTEXT_NAME, RunContext


def test_the_first_claim_wins_and_a_repeated_one_gets_the_same_attempt(
    plane: FakeControlPlane, context: RunContext
) -> None:
    assert claim_fence(context, "one").attempt == 1
    assert claim_fence(context, "one").attempt == 1


def test_a_second_trainer_waits_for_the_loss_of_the_first(plane: FakeControlPlane, context: RunContext) -> None:
    claim_fence(context, "one")
    with pytest.raises(AttemptHeldError):
        claim_fence(context, "two", patience=0.1, pause=0.02)
    Timer(0.2, plane.lost, (1, {"trainer": "one"})).start()
    assert claim_fence(context, "two", patience=20, pause=0.05).attempt == 2


def test_a_finished_job_is_fenced_at_once(plane: FakeControlPlane, context: RunContext) -> None:
    plane.job_state = "cancelled"
    with pytest.raises(FencedError):
        claim_fence(context, "one", patience=0)


def test_an_unknown_token_is_fenced_at_once(plane: FakeControlPlane, context: RunContext) -> None:
    plane.token = "another"
    with pytest.raises(FencedError):
        claim_fence(context, "one", patience=0)


def test_a_control_plane_that_is_away_is_waited_for(plane: FakeControlPlane, context: RunContext) -> None:
    plane.outage()
    with pytest.raises(UnavailableError):
        claim_fence(context, "one", patience=0.1, pause=0.02)
    Timer(0.2, plane.restore).start()
    assert claim_fence(context, "one", patience=20, pause=0.05).attempt == 1


def test_a_control_plane_that_comes_back_on_another_port_is_found(plane: FakeControlPlane, context: RunContext) -> None:
    plane.outage()
    with FakeControlPlane() as elsewhere:
        context.model_copy(update={"api_url": elsewhere.url}).write(context.workspace / CONTEXT_NAME)
        assert claim_fence(context, "one", patience=20, pause=0.02).attempt == 1
        plane.restore()
        with RunClient(context) as line:
            elsewhere.outage()
            context.write(context.workspace / CONTEXT_NAME)
            with pytest.raises(UnavailableError):
                line.claim("one")
            assert line.claim("one").attempt == 1
