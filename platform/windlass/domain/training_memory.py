"""A lower bound of the GPU memory that a training needs; pure functions.

The bound is what the trainer holds in any case, so a job above it is certain to run out of memory. A job below it may
still need more: attention scores, logits, temporary buffers and memory fragmentation are not counted.
"""

from windlass.domain.datasets import Histogram
from windlass.domain.jobs import DomainModel
from windlass.domain.specs import HeadOnlyMethod, LoraMethod, Method, ResolvedTraining
from windlass.kit.numbers import size

_WEIGHT = 4
"""Bytes of a weight: the trainer loads models in fp32; bf16 is mixed precision, which keeps fp32 weights."""
_GRADIENT = 4
_OPTIMIZER = 8
"""Bytes per trained weight of AdamW's two moments in fp32."""
_ACTIVATION = {"fp32": 4, "bf16": 2, "auto": 2}
"""Bytes of a saved activation, at least."""


class ModelSize(DomainModel):
    """What the memory of a training depends on."""

    parameters: int
    activations_per_token: int = 0
    """Values per token that the linear layers save for the backward pass; 0: not known."""


class MemoryEstimate(DomainModel):
    """Bytes on one GPU, at least, by use."""

    weights: int
    optimizer: int
    gradients: int
    activations: int
    accumulates: bool = False
    """Whether gradients are kept while the next micro-batch saves its activations."""

    def __str__(self) -> str:
        parts = ("weights", "optimizer", "gradients", "activations")
        return ", ".join(f"{part} {size(amount)}" for part in parts if (amount := getattr(self, part)))

    @property
    def total(self) -> int:
        """The peak: without accumulation, activations are freed while gradients appear, so only the larger counts."""
        gradients, activations = self.gradients, self.activations
        varying = gradients + activations if self.accumulates else max(gradients, activations)
        return self.weights + self.optimizer + varying


def least_memory(model: ModelSize, method: Method, training: ResolvedTraining, tokens: int = 0) -> MemoryEstimate:
    """Return the bytes that one GPU holds at least, from the second optimizer step on.

    With P parameters, of which T are trained, and A activations saved for the backward pass::

        4 P + 8 T + max(4 T, A)    one micro-batch per optimizer step
        4 P + 8 T + 4 T + A        gradient accumulation

    Weights, gradients and AdamW's moments as in Rajbhandari et al., "ZeRO" (2020), section 3.1, with fp32 weights and
    gradients, as autocast keeps them. Data parallelism replicates all of them, and a process uses one GPU, so more
    workers or GPUs per worker change nothing. T = P for ``full``; for ``lora`` and ``head-only`` it is counted as 0.

    A = ``tokens`` x ``activations_per_token`` x bytes per value, compare Korthikanti et al., "Reducing Activation
    Recomputation in Large Transformer Models" (2022), section 4. It counts only the inputs of linear layers, and is 0
    where a part of the layers may need no backward pass: for ``head-only``, and for LoRA of named modules.

    Args:
        model: the size of the base model.
        method: the fine-tuning method.
        training: the resolved hyperparameters.
        tokens: tokens that the largest micro-batch of one process has at least.
    """
    trained = model.parameters if method.type == "full" else 0
    return MemoryEstimate(
        weights=_WEIGHT * model.parameters,
        optimizer=_OPTIMIZER * trained,
        gradients=_GRADIENT * trained,
        activations=tokens * model.activations_per_token * _ACTIVATION[training.precision] * _all_layers(method),
        accumulates=training.gradient_accumulation > 1,
    )


def _all_layers(method: Method) -> bool:
    """Return whether every layer needs a backward pass."""
    match method:
        case HeadOnlyMethod():
            return False
        case LoraMethod(target_modules=targets):
            return targets == "all-linear"
        case _:
            return True


def least_tokens(lengths: Histogram | None, rows: int, training: ResolvedTraining, world_size: int) -> int:
    """Return the tokens that the largest micro-batch has at least: the mean of all micro-batches of one epoch.

    Padding and chat templates only add tokens. Returns 0 when the training has less than two epochs: it may reach the
    largest micro-batch never, or only in the first step, which has no optimizer state yet.

    Args:
        lengths: tokens per row of the training split, of usable and unusable rows.
        rows: the number of usable rows.
        training: the resolved hyperparameters.
        world_size: the number of training processes, which share every batch.
    """
    if lengths is None or rows == 0:
        return 0
    steps_per_epoch = -(-rows // (training.batch_size * world_size))
    steps = training.max_steps or int(training.epochs * steps_per_epoch)
    if steps < 2 * steps_per_epoch:
        return 0
    total, left = 0, rows
    for edge, count in zip(lengths.edges, lengths.counts, strict=False):  # the last edge is the end of the last bin
        taken = min(left, count)  # the unusable rows may be the longest
        total += taken * int(min(max(edge, 0), training.max_length))
        left -= taken
    return total // (steps_per_epoch * world_size * training.gradient_accumulation)
