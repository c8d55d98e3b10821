"""What every ``ports.PipelineBackend`` does, whatever runs the pipeline."""

from typing import Protocol

import pytest

from windlass.ports import BackendState, PipelineBackend
from windlass.runtime.context import RunContext


class PipelineWorld(Protocol):
    """One job with one run, under a test's hands."""

    def backend(self) -> PipelineBackend:
        """The back end as one more server sees it."""
        ...

    def context(self) -> RunContext:
        """What the run is told."""
        ...

    def tell(self, how: str) -> None:
        """Let the trainer end: ``ok`` or ``fail``."""
        ...

    def preempt(self) -> None:
        """Let the control plane ask for a stop."""
        ...

    def ended(self) -> BackendState:
        """Wait until the run does not run, and return its state."""
        ...

    def starts(self) -> int:
        """How many times the run was really started."""
        ...


class PipelineBackendContract:
    """Inherit and give a fixture ``world``."""

    def test_a_run_that_was_never_submitted_is_unknown(self, world: PipelineWorld) -> None:
        assert world.backend().poll("job-never-r1").state is BackendState.UNKNOWN

    def test_killing_a_run_that_was_never_submitted_is_no_error(self, world: PipelineWorld) -> None:
        world.backend().kill("job-never-r1")
        assert world.backend().poll("job-never-r1").state is BackendState.UNKNOWN

    def test_a_run_that_trains_and_registers_succeeds(self, world: PipelineWorld) -> None:
        backend, name = world.backend(), world.context().run_name
        backend.submit(world.context())
        assert backend.poll(name).state is BackendState.RUNNING
        world.tell("ok")
        assert world.ended() is BackendState.SUCCEEDED
        assert backend.poll(name).name == name

    def test_a_second_submit_adopts_the_first_run(self, world: PipelineWorld) -> None:
        world.backend().submit(world.context())
        world.backend().submit(world.context())
        world.tell("ok")
        assert world.ended() is BackendState.SUCCEEDED
        world.backend().submit(world.context())
        assert world.backend().poll(world.context().run_name).state is BackendState.SUCCEEDED
        assert world.starts() == 1

    def test_a_failed_run_says_why(self, world: PipelineWorld) -> None:
        world.backend().submit(world.context())
        world.tell("fail")
        assert world.ended() is BackendState.FAILED
        assert "the loss is not a number" in world.backend().poll(world.context().run_name).message

    def test_a_run_that_obeys_is_stopped_not_failed(self, world: PipelineWorld) -> None:
        world.backend().submit(world.context())
        world.preempt()
        assert world.ended() is BackendState.STOPPED

    def test_a_killed_run_is_lost_and_can_be_killed_again(self, world: PipelineWorld) -> None:
        backend, name = world.backend(), world.context().run_name
        backend.submit(world.context())
        backend.kill(name)
        assert backend.poll(name).state is BackendState.LOST
        backend.kill(name)
        assert backend.poll(name).state is BackendState.LOST

    @pytest.mark.parametrize("how", ["ok", "fail"])
    def test_killing_a_run_that_has_ended_does_not_change_how_it_ended(self, world: PipelineWorld, how: str) -> None:
        world.backend().submit(world.context())
        world.tell(how)
        ended = world.ended()
        world.backend().kill(world.context().run_name)
        assert world.backend().poll(world.context().run_name).state is ended
