"""Hyperparameters that a job leaves open are chosen from its data, task and method."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories.training_runs import job_spec

from windlass.domain.training_defaults import plan_training
from windlass_pipelines.train.schedule import total_steps


@pytest.mark.parametrize(("task", "rows", "steps"), [("text-classification", 800, 400), ("chat", 400, 150)])
def test_small_data_gets_enough_steps(task: str, rows: int, steps: int) -> None:
    training = plan_training(job_spec(task), rows, 1).training
    assert total_steps(training, -(-rows // training.batch_size)) >= steps


def test_large_data_gets_three_epochs_and_a_larger_batch() -> None:
    training = plan_training(job_spec(), 100_000, 1).training
    assert (training.epochs, training.batch_size) == (3, 64)


def test_the_learning_rate_depends_on_the_method() -> None:
    rates = {m: plan_training(job_spec(method={"type": m}), 100, 1).training.learning_rate for m in ("full", "lora")}
    assert rates["full"] < rates["lora"]


def test_every_choice_has_a_reason_and_set_fields_are_kept() -> None:
    plan = plan_training(job_spec(training={"epochs": 7, "seed": 5}), 1000, 1)
    assert (plan.training.epochs, plan.training.seed) == (7, 5)
    assert [default.field for default in plan.chosen] == ["batch_size", "learning_rate"]
    assert all(default.reason for default in plan.chosen)
    assert plan_training(job_spec(training=plan.training.model_dump()), 5, 1).chosen == ()


def test_the_length_is_that_of_a_base_model_with_short_inputs() -> None:
    plan = plan_training(job_spec(), 1000, 1, max_positions=64)
    assert plan.training.max_length == 64
    assert "max_length = 64: the longest input of the base model" in [str(default) for default in plan.chosen]
    assert plan_training(job_spec(), 1000, 1, max_positions=512).training.max_length == 128
    assert plan_training(job_spec(training={"max_length": 32}), 1000, 1, max_positions=64).training.max_length == 32


@given(rows=st.integers(1, 10**7), world_size=st.integers(1, 64), accumulation=st.integers(1, 64))
def test_the_choices_are_valid_for_every_size(rows: int, world_size: int, accumulation: int) -> None:
    training = {"gradient_accumulation": accumulation}
    plan = plan_training(job_spec(training=training), rows, world_size)
    assert plan.training.batch_size % accumulation == 0
    assert 3 <= plan.training.epochs <= 20


def test_more_processes_take_fewer_steps_of_larger_batches() -> None:
    one, eight = (plan_training(job_spec(training={"batch_size": 16}), 12_800, size) for size in (1, 8))
    assert (one.training.batch_size, eight.training.batch_size) == (16, 16), "rows of each process"
    assert (one.training.epochs, eight.training.epochs) == (3, 4), "100 steps per epoch instead of 800"


def test_every_gpu_has_a_process_and_the_cpu_slots_of_a_worker_share_one() -> None:
    resources = job_spec(resources={"workers": 2, "gpus_per_worker": 4}).resources
    assert (resources.world_size(has_gpus=True), resources.world_size(has_gpus=False)) == (8, 2)
