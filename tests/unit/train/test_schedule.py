"""Number of steps, learning rate and early stopping."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.specs import EarlyStopping, ResolvedTraining
from windlass_pipelines.train.schedule import EarlyStoppingState, learning_rate, total_steps


def resolved(**fields: Any) -> ResolvedTraining:
    values = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "max_length": 128}
    return ResolvedTraining.model_validate(values | fields)


def test_epochs_round_up_to_whole_steps_and_max_steps_overrides_them() -> None:
    assert total_steps(resolved(epochs=2.5), 10) == 25
    assert total_steps(resolved(epochs=0.01), 10) == 1
    assert total_steps(resolved(epochs=2.5, max_steps=7), 10) == 7


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_peaks_at_the_end_of_the_warmup_and_decays_to_zero(schedule: str) -> None:
    spec = resolved(learning_rate=0.5, warmup_ratio=0.2, schedule=schedule)
    rates = [learning_rate(spec, step, 100) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.5 / 20)
    assert rates[19] == pytest.approx(0.5)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_both_schedules_are_at_half_the_peak_in_the_middle() -> None:
    for schedule in ("linear", "cosine"):
        spec = resolved(learning_rate=1.0, warmup_ratio=0.0, schedule=schedule)
        assert learning_rate(spec, 51, 100) == pytest.approx(0.5)


@given(total=st.integers(1, 500), ratio=st.floats(0, 0.99), schedule=st.sampled_from(["linear", "cosine"]))
def test_the_learning_rate_stays_between_zero_and_its_peak(total: int, ratio: float, schedule: str) -> None:
    spec = resolved(learning_rate=0.1, warmup_ratio=ratio, schedule=schedule)
    assert all(0 < learning_rate(spec, step, total) <= 0.1 * (1 + 1e-9) for step in range(1, total + 1))


def test_early_stopping_after_validations_without_improvement() -> None:
    rule = EarlyStopping(patience=2, min_delta=0.1)
    state = EarlyStoppingState()
    for step, loss in enumerate((1.0, 0.95, 0.5), start=1):
        state = state.update(loss, step, rule)
    assert (state.best_loss, state.best_step, state.exhausted(rule)) == (0.5, 3, False)
    state = state.update(0.45, 4, rule).update(math.nan, 5, rule)
    assert (state.best_step, state.exhausted(rule)) == (3, True)
