"""Random faults of a Kubeflow Pipelines server: the adapter reports the result, and starts no workflow twice."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.factories.kfp_runs import FAILED, KfpRun, kfp_run
from tests.fakes.kfp.server import Fault
from tests.fakes.kfp.store import KfpServerSettings

from windlass.domain.errors import UnavailableError
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendState

RESULTS = st.sampled_from([RunResult(state="succeeded"), FAILED, RunResult(state="stopped")])
FAULTS = st.lists(st.one_of(st.none(), st.none(), st.sampled_from(list(Fault))), max_size=30)
SLOWNESS = st.integers(1, 4)
HIDDEN = st.integers(0, 4)
_MAX_CALLS = 60


def inject(run: KfpRun, faults: Sequence[Fault | None]) -> None:
    """Let the next requests have these faults."""
    remaining: Iterator[Fault | None] = iter(faults)
    run.server.faults = lambda _method, _path: next(remaining, None)


def submit(run: KfpRun) -> None:
    """Submit as the worker does, each time in a new process, until it succeeds."""
    for _ in range(_MAX_CALLS):
        try:
            run.backend().submit(run.context)
        except UnavailableError:
            run.clock.sleep(10)
        else:
            return
    raise AssertionError("the run cannot be submitted")


def kill(run: KfpRun) -> None:
    for _ in range(_MAX_CALLS):
        try:
            run.backend().kill(run.name)
        except UnavailableError:
            run.clock.sleep(1)
        else:
            return
    raise AssertionError("the run cannot be killed")


def check_no_double_workflow(run: KfpRun) -> None:
    runs = run.server.store.runs.values()
    assert all(len(each.workflows) == 1 for each in runs)
    assert not run.server.store.orphans
    assert run.starts() == 1


@hypothesis_settings(max_examples=25, deadline=None)
@given(RESULTS, FAULTS, FAULTS, SLOWNESS, HIDDEN)
def test_the_result_is_reported_whatever_fails(
    result: RunResult, early: list[Fault | None], late: list[Fault | None], slowness: int, hidden: int
) -> None:
    with TemporaryDirectory() as folder, kfp_run(Path(folder), KfpServerSettings(calls_per_change=slowness)) as run:
        inject(run, early)
        submit(run)
        for each in run.server.store.runs.values():
            each.hidden_states = hidden
        inject(run, late)
        run.end_step(result)
        ended = run.wait_ended()
        assert ended.state is BackendState(result.state)
        assert ended.message == result.message
        check_no_double_workflow(run)
        active = [each for each in run.server.store.runs.values() if each.state not in ("SUCCEEDED", "FAILED")]
        assert not active


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([Fault.LOST_REPLY, Fault.ERROR_AFTER, Fault.UNREADABLE]),
    st.integers(0, 8),
    st.sampled_from(list(Fault)),
)
def test_a_creation_is_not_repeated_while_the_server_cannot_show_the_run(
    lost: Fault, failures: int, failure: Fault
) -> None:
    with TemporaryDirectory() as folder, kfp_run(Path(folder)) as run:
        creations, reads = [lost], [failure] * failures

        def fault(method: str, path: str) -> Fault | None:
            if (method, path) == ("POST", "/apis/v2beta1/runs"):
                return creations.pop() if creations else None
            return reads.pop() if not creations and path.startswith("/apis/v2beta1/runs/") and reads else None

        run.server.faults = fault
        submit(run)
        assert not reads or failures == 0
        check_no_double_workflow(run)


@hypothesis_settings(max_examples=25, deadline=None)
@given(FAULTS, FAULTS, SLOWNESS, st.integers(0, 12))
def test_nothing_runs_after_a_kill(
    early: list[Fault | None], late: list[Fault | None], slowness: int, changes: int
) -> None:
    with TemporaryDirectory() as folder, kfp_run(Path(folder), KfpServerSettings(calls_per_change=slowness)) as run:
        inject(run, early)
        submit(run)
        store = run.server.store
        for each in list(store.runs.values()):
            for _ in range(changes):
                store.advance(each)
        inject(run, late)
        kill(run)
        assert [each.state for each in store.runs.values()] == ["FAILED"] * len(store.runs)
        assert run.wait_ended().state is BackendState.LOST
        check_no_double_workflow(run)
