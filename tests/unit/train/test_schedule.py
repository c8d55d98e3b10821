"""Length, learning rate and patience as functions of the step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.specs import EarlyStopping, TrainingSpec
from windlass_pipelines.train.schedule import Patience, learning_rate, total_steps


def test_epochs_become_whole_steps_and_max_steps_wins() -> None:
    assert total_steps(TrainingSpec(epochs=2.5), 10) == 25
    assert total_steps(TrainingSpec(epochs=0.01), 10) == 1
    assert total_steps(TrainingSpec(epochs=2.5, max_steps=7), 10) == 7


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_rises_to_its_peak_at_the_end_of_warm_up_and_falls_towards_zero(schedule: str) -> None:
    spec = TrainingSpec(learning_rate=0.5, warmup_ratio=0.2, schedule=schedule)
    rates = [learning_rate(spec, step, 100) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == pytest.approx(0.5)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_linear_is_halfway_down_in_the_middle_and_cosine_too() -> None:
    for schedule in ("linear", "cosine"):
        spec = TrainingSpec(learning_rate=1.0, warmup_ratio=0.0, schedule=schedule)
        assert learning_rate(spec, 51, 100) == pytest.approx(0.5)


@given(total=st.integers(1, 500), ratio=st.floats(0, 0.99), schedule=st.sampled_from(["linear", "cosine"]))
def test_the_rate_stays_between_zero_and_its_peak(total: int, ratio: float, schedule: str) -> None:
    spec = TrainingSpec(learning_rate=0.1, warmup_ratio=ratio, schedule=schedule)
    assert all(0 < learning_rate(spec, step, total) <= 0.1 * (1 + 1e-9) for step in range(1, total + 1))


def test_patience_runs_out_after_evaluations_without_improvement() -> None:
    rule = EarlyStopping(patience=2, min_delta=0.1)
    state = Patience()
    for step, loss in enumerate((1.0, 0.95, 0.5), start=1):
        state = state.after(loss, step, rule)
    assert (state.best, state.best_step, state.exhausted(rule)) == (0.5, 3, False)
    state = state.after(0.45, 4, rule).after(math.nan, 5, rule)
    assert (state.best_step, state.exhausted(rule)) == (3, True)
