"""The estimate of training memory is at most what a real training holds, and never counts too many tokens."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories.training_runs import job_spec, store_folder
from tests.fakes.recording_reporter import RecordingReporter
from tests.unit.train.conftest import MakeRun
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import AutoModel, AutoModelForCausalLM

from windlass.dataset_files.findings import Findings
from windlass.domain.datasets import Histogram, Split
from windlass.domain.reports import AcquireAttemptReply
from windlass.domain.specs import JobSpec, ResolvedTraining
from windlass.domain.training_memory import MemoryEstimate, ModelSize, least_memory, least_tokens
from windlass.runtime.context import RunEnvironment
from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.data.row_store import RowStore
from windlass_pipelines.data.statistics import compute_statistics
from windlass_pipelines.data.token_lengths import histogram, token_counter
from windlass_pipelines.train.attempt import AttemptRun
from windlass_pipelines.train.batches import BatchPlan, rank_micro_batches
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.models import activations_per_token

TWO_EPOCHS = {"epochs": 2, "batch_size": 8, "max_length": 64}
CLASSIFICATION, CHAT = "text-classification", "chat"
LORA = {"type": "lora", "rank": 1}
ONE_STEP, ACCUMULATED, BF16 = {"precision": "fp32"}, {"gradient_accumulation": 2}, {"precision": "bf16"}


class MemoryMeter:
    """Measures the bytes of weights, gradients, optimizer state and saved activations of a training."""

    def __init__(self) -> None:
        self.peak = 0
        self._module: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved: dict[int, tuple[int, int]] = {}

    def wrap(self, module: nn.Module) -> nn.Module:
        """Take the module that is trained."""
        self._module = module
        return module

    def pack(self, tensor: Tensor) -> Any:
        """Count a tensor that is saved for the backward pass, until it is freed; each storage counts once."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() in {weight.untyped_storage().data_ptr() for weight in self._weights()}:
            return tensor
        size, uses = self._saved.get(storage.data_ptr(), (storage.nbytes(), 0))
        self._saved[storage.data_ptr()] = size, uses + 1
        holder = _Saved(tensor)
        weakref.finalize(holder, self._free, storage.data_ptr())
        self._measure()
        return holder

    def after_step(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Measure before the gradients are freed."""
        self._optimizer = optimizer
        self._measure()

    def _free(self, address: int) -> None:
        size, uses = self._saved.pop(address)
        if uses > 1:
            self._saved[address] = size, uses - 1

    def _weights(self) -> list[nn.Parameter]:
        assert self._module is not None
        return list(self._module.parameters())

    def _measure(self) -> None:
        if self._optimizer is None:
            return
        state = [value for values in self._optimizer.state.values() for value in values.values()]
        gradients = [weight.grad for weight in self._weights() if weight.grad is not None]
        held = sum(tensor.nbytes for tensor in (*self._weights(), *gradients, *state))
        self.peak = max(self.peak, held + sum(size for size, _ in self._saved.values()))


class _Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def measured_peak(environment: RunEnvironment) -> int:
    """Train, and return the most bytes that were held at once."""
    meter = MemoryMeter()
    reply = AcquireAttemptReply(attempt=1, heartbeat_timeout_seconds=30)
    hook = register_optimizer_step_post_hook(meter.after_step)
    try:
        with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda held: getattr(held, "tensor", held)):
            AttemptRun(environment, reply, DistributedContext(), RecordingReporter(), FileTransfer(), meter.wrap).run()
    finally:
        hook.remove()
    return meter.peak


def estimated(environment: RunEnvironment, spec: JobSpec) -> MemoryEstimate:
    """Return the estimate from what the catalogue and the report of the dataset say."""
    base = store_folder(environment) / "base/tiny"
    kind: Any = AutoModelForCausalLM if spec.task == CHAT else AutoModel
    model = kind.from_pretrained(base)
    size = ModelSize(
        parameters=sum(weight.numel() for weight in model.parameters()),
        activations_per_token=activations_per_token(model),
    )
    rows = RowStore(store_folder(environment) / "data/rows", {Split.TRAIN: 48})
    _, count = token_counter(str(base / "tokenizer.json"), Findings())
    lengths = compute_statistics(rows, count, 10, Findings())[Split.TRAIN].lengths
    training = ResolvedTraining.model_validate(spec.training.model_dump() | {"learning_rate": 1e-3})
    tokens = least_tokens(histogram(lengths), 48, training, world_size=1)
    assert tokens > 0
    return least_memory(size, spec.method, training, tokens)


@pytest.mark.parametrize(
    ("task", "method", "training"),
    [
        (CLASSIFICATION, {"type": "full"}, ONE_STEP),
        (CLASSIFICATION, {"type": "full"}, BF16),
        (CLASSIFICATION, {"type": "full"}, ACCUMULATED),
        (CLASSIFICATION, LORA, ONE_STEP),
        (CLASSIFICATION, LORA | {"target_modules": ["query"]}, BF16),
        (CLASSIFICATION, {"type": "head-only"}, ONE_STEP),
        (CHAT, {"type": "full"}, ACCUMULATED),
        (CHAT, LORA, BF16),
    ],
)
def test_a_training_holds_at_least_the_estimate(
    run_for: MakeRun, task: str, method: dict[str, Any], training: dict[str, Any]
) -> None:
    spec = job_spec(task, method=method, training=TWO_EPOCHS | training)
    environment = run_for(spec)
    estimate, peak = estimated(environment, spec), measured_peak(environment)
    assert 0.1 * peak <= estimate.total <= peak


def settings_of(**training: Any) -> ResolvedTraining:
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "max_length": 128} | training
    return ResolvedTraining.model_validate(values)


@pytest.mark.parametrize(
    ("method", "training", "tokens", "gibibytes"),
    [
        ({"type": "full"}, {}, 0, 16),
        ({"type": "full"}, {"precision": "fp32"}, 1 << 12, 16),
        ({"type": "full"}, {"precision": "fp32"}, 1 << 14, 12 + 16),
        ({"type": "full"}, {"gradient_accumulation": 2, "precision": "bf16"}, 1 << 12, 16 + 2),
        ({"type": "lora"}, {"precision": "auto"}, 1 << 12, 4 + 2),
        ({"type": "lora", "target_modules": ["q_proj"]}, {}, 1 << 12, 4),
    ],
)
def test_the_estimate_follows_its_formula(
    method: dict[str, Any], training: dict[str, Any], tokens: int, gibibytes: int
) -> None:
    spec = job_spec("chat", method=method)
    model = ModelSize(parameters=1 << 30, activations_per_token=1 << 18)
    assert least_memory(model, spec.method, settings_of(**training), tokens).total == gibibytes << 30


@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=120),
    unusable=st.integers(0, 20),
    batch=st.sampled_from([1, 2, 4, 6, 8, 16]),
    parts=st.sampled_from([1, 2]),
    world_size=st.integers(1, 3),
    epochs=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
@settings(deadline=None)
def test_the_largest_micro_batch_has_at_least_the_tokens(
    lengths: list[int], unusable: int, batch: int, parts: int, world_size: int, epochs: float
) -> None:
    training = settings_of(batch_size=batch * parts, gradient_accumulation=parts, epochs=epochs)
    bins = histogram(np.asarray(lengths, dtype=np.uint32))
    usable = sorted(lengths)[: max(1, len(lengths) - unusable)]
    trained = [min(length, training.max_length) for length in usable]
    plan = BatchPlan(trained, training.batch_size * world_size, seed=0)
    micro_batches = [
        sum(trained[i] for i in part)
        for step in range(1, plan.steps_per_epoch + 1)
        for rank in range(world_size)
        for part in rank_micro_batches(plan.rows(step), rank, world_size, parts)
    ]
    tokens = least_tokens(bins, len(usable), training, world_size)
    assert tokens <= max(micro_batches)
    if epochs < 2:
        assert tokens == 0


def test_rows_of_unknown_length_have_no_tokens() -> None:
    bins = Histogram(edges=(0, 100, 200), counts=(1, 9))
    assert least_tokens(None, 10, settings_of(), 1) == 0
    assert least_tokens(bins, 0, settings_of(), 1) == 0
    assert least_tokens(bins, 10, settings_of(batch_size=10), 1) == 900
    assert least_tokens(bins, 10, settings_of(batch_size=10, max_length=64), 1) == 576


def test_only_layers_that_see_every_token_count() -> None:
    model = nn.Module()
    layer = nn.ModuleDict(
        {
            "attention": nn.ModuleDict({"query": nn.Linear(4, 4), "key": nn.Linear(4, 2), "output": nn.Linear(3, 4)}),
            "ffn": nn.ModuleDict({"up": nn.Linear(4, 10), "down": nn.Linear(10, 4)}),
            "experts": nn.ModuleList([nn.Linear(100, 100)]),
        }
    )
    model.layers = nn.ModuleList([layer])
    model.pooler = nn.Linear(1000, 4)
    assert activations_per_token(model) == 4 + 10
