"""The batch plan: every row once per epoch, deterministic, rows of similar length together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from windlass_pipelines.train.batches import BatchPlan, length_sorted_batches, rank_micro_batches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=200)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 5))
def test_every_row_occurs_once_per_epoch(lengths: list[int], batch: int, epoch: int) -> None:
    plan = BatchPlan(lengths, batch, seed=3)
    first = epoch * plan.steps_per_epoch + 1
    steps = [plan.rows(step) for step in range(first, first + plan.steps_per_epoch)]
    assert sorted(int(row) for rows in steps for row in rows) == list(range(len(lengths)))
    assert all(1 <= len(rows) <= batch for rows in steps)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 400))
def test_the_rows_of_a_step_do_not_depend_on_earlier_calls(lengths: list[int], batch: int, step: int) -> None:
    walked, jumped = BatchPlan(lengths, batch, seed=1), BatchPlan(lengths, batch, seed=1)
    for earlier in range(1, step):
        walked.rows(earlier)
    assert walked.rows(step).tolist() == jumped.rows(step).tolist()


def test_epochs_and_seeds_differ() -> None:
    plan = BatchPlan([5] * 64, 8, seed=0)
    assert plan.rows(1).tolist() != plan.rows(1 + plan.steps_per_epoch).tolist()
    assert plan.rows(1).tolist() != BatchPlan([5] * 64, 8, seed=1).rows(1).tolist()


def test_batches_of_similar_length_need_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(4, 100, 512)
    plan = BatchPlan(lengths.tolist(), 16, seed=0)
    padded = sum(int(lengths[rows].max()) * len(rows) for rows in map(plan.rows, range(1, plan.steps_per_epoch + 1)))
    assert padded / lengths.sum() < 1.1


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 5))
def test_the_micro_batches_of_all_ranks_cover_the_batch(rows: int, size: int, parts: int) -> None:
    shares = [rank_micro_batches(np.arange(rows), rank, size, parts) for rank in range(size)]
    assert all(len(one) == parts for one in shares)
    assert sorted(int(row) for one in shares for part in one for row in part) == list(range(rows))


def test_length_sorted_batches_begin_with_the_longest_rows() -> None:
    batches = length_sorted_batches([3, 9, 1, 7, 5], 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [4, 0], [2]]
