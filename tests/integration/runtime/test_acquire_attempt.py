"""Acquiring an attempt."""

from threading import Timer

import pytest
from tests.factories.run_contexts import with_token
from tests.factories.served_control_plane import ServedControlPlane

from windlass.domain.errors import AttemptActiveError, FencedError, UnavailableError
from windlass.runtime.client import RunApiClient, acquire_attempt
from windlass.runtime.context import RunEnvironment


def test_a_repeated_request_gets_the_same_attempt(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    assert acquire_attempt(environment, "one").attempt == 1
    assert acquire_attempt(environment, "one").attempt == 1


def test_a_second_trainer_waits_until_the_first_is_lost(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    acquire_attempt(environment, "one")
    with pytest.raises(AttemptActiveError):
        acquire_attempt(environment, "two", timeout=0.1, retry_interval=0.02)
    Timer(0.2, control_plane.lose_attempt).start()
    assert acquire_attempt(environment, "two", timeout=20, retry_interval=0.05).attempt == 2


def test_a_finished_job_is_fenced_at_once(control_plane: ServedControlPlane, environment: RunEnvironment) -> None:
    control_plane.cancel()
    with pytest.raises(FencedError):
        acquire_attempt(environment, "one", timeout=0)


def test_an_unknown_token_is_fenced_at_once(control_plane: ServedControlPlane, environment: RunEnvironment) -> None:
    with pytest.raises(FencedError, match="its token is revoked"):
        acquire_attempt(with_token(environment, "another"), "one", timeout=0)


def test_an_unavailable_control_plane_is_retried(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    control_plane.outage()
    with pytest.raises(UnavailableError):
        acquire_attempt(environment, "one", timeout=0.1, retry_interval=0.02)
    Timer(0.2, control_plane.restore).start()
    assert acquire_attempt(environment, "one", timeout=20, retry_interval=0.05).attempt == 1


def test_a_control_plane_that_restarts_on_another_port_is_reached(
    control_plane: ServedControlPlane, environment: RunEnvironment
) -> None:
    def move() -> None:
        control_plane.outage()
        control_plane.restore(other_port=True)
        control_plane.environment(environment)

    move()
    assert acquire_attempt(environment, "one", timeout=20, retry_interval=0.02).attempt == 1
    with RunApiClient(environment) as client:
        move()
        with pytest.raises(UnavailableError):
            client.acquire_attempt("one")
        assert client.acquire_attempt("one").attempt == 1
