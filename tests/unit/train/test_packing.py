"""Packing: all documents are packed, no row overflows, documents do not attend to each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.factories.tiny_models import tiny_chat_model
from tests.factories.training_runs import chat_rows

from windlass_pipelines.train.tasks.chat import ChatTask
from windlass_pipelines.train.tasks.packing import best_fit


@given(st.lists(st.integers(1, 50), max_size=80))
def test_every_document_is_in_one_bin_and_no_bin_overflows(lengths: list[int]) -> None:
    bins = best_fit(lengths, 50)
    assert sorted(document for members in bins for document in members) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in members) <= 50 for members in bins)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_no_two_bins_can_be_merged(lengths: list[int]) -> None:
    sums = sorted(sum(lengths[i] for i in members) for members in best_fit(lengths, 50))
    assert len(sums) < 2 or sums[0] + sums[1] > 50


@pytest.fixture
def chat(tmp_path: Path) -> tuple[ChatTask, torch.nn.Module]:
    task = ChatTask(tiny_chat_model(tmp_path / "base"), 100, 8, packing=True)
    return task, task.load(tmp_path / "base").eval()


def test_the_loss_of_a_packed_row_equals_the_sum_over_its_documents(chat: tuple[ChatTask, torch.nn.Module]) -> None:
    task, model = chat
    examples, cut = task.encode(chat_rows(12))
    packed = task.prepare_examples(examples)
    assert cut == 0
    assert len(packed) < len(examples) / 1.5
    assert len({len(example.ids) for example in packed}) > 1, "rows of one batch should differ in padding"
    with torch.no_grad():
        together = task.loss(model, task.collate(packed)).item()
        alone = sum(task.loss(model, task.collate([example])).item() for example in examples)
    assert together == pytest.approx(alone, rel=1e-5)


def test_the_gradient_of_a_packed_batch_equals_that_of_its_documents(chat: tuple[ChatTask, torch.nn.Module]) -> None:
    task, model = chat
    examples, _ = task.encode(chat_rows(8))
    gradients = []
    for batches in ([task.prepare_examples(examples)], [[example] for example in examples]):
        model.zero_grad()
        for batch in batches:
            task.loss(model, task.collate(batch)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_padding_does_not_change_the_loss(chat: tuple[ChatTask, torch.nn.Module]) -> None:
    task, model = chat
    examples, _ = task.encode(chat_rows(6))
    with torch.no_grad():
        batched = task.loss(model, task.collate(examples)).item()
        alone = sum(task.loss(model, task.collate([example])).item() for example in examples)
    assert batched == pytest.approx(alone, rel=1e-5)


def test_a_row_whose_answer_begins_beyond_max_length_has_no_target(tmp_path: Path) -> None:
    task = ChatTask(tiny_chat_model(tmp_path / "base"), 60, 8, packing=False)
    long = {"messages": [{"role": "user", "content": "x" * 200}, {"role": "assistant", "content": "fine"}]}
    examples, cut = task.encode([*chat_rows(2), long])
    assert cut >= 1
    assert examples[2].weight == 0
    assert np.array_equal([len(e.ids) <= 60 for e in examples], [True] * 3)
