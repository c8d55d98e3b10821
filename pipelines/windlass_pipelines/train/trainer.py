"""The training loop: optimizer steps with gradient accumulation and clipping, validation, checkpoints, early stopping.

It depends on neither Ray nor the control plane. Random numbers are seeded from (seed, step, rank), so a resumed run
computes the same values as an uninterrupted one.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from windlass.domain.errors import WindlassError
from windlass.domain.reports import CheckpointItem, CheckpointPrunedItem, Command, PhasesItem
from windlass.domain.specs import ResolvedTraining
from windlass_pipelines.train.batches import BatchPlan, EncodedExample, RowIndices, rank_micro_batches
from windlass_pipelines.train.checkpoints import (
    BestEvaluation,
    CheckpointRef,
    CheckpointStore,
    TrainingProgress,
    TrainingState,
)
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.optimizer import (
    adamw,
    optimizer_state,
    restore_optimizer_state,
    restore_weights,
    trainable,
)
from windlass_pipelines.train.phases import PhaseClock
from windlass_pipelines.train.result import AttemptFencedError, StoppedError, TrainingError
from windlass_pipelines.train.schedule import EarlyStoppingState, learning_rate, total_steps
from windlass_pipelines.train.tasks import TaskAdapter, TensorBatch, to_device

_log = logging.getLogger(__name__)
_LOG_INTERVAL_SECONDS = 1.0
_LINE_INTERVAL_SECONDS = 5.0
"""Minimum seconds between two lines of progress in the log; evaluations are always logged."""
_SYNC_EVERY_STEPS = 10
"""Steps between all-reduces of losses and commands with several ranks: each all-reduce waits for the device."""
_MAX_CURVE_POINTS = 5000
_COMMAND_RANK = {Command.CONTINUE: 0, Command.PREEMPT: 1, Command.CANCEL: 2}
_FENCED_RANK = 3
TrainerItem = CheckpointItem | CheckpointPrunedItem | PhasesItem


class ProgressReporter(Protocol):
    """Sends metrics, events and checkpoints, and receives commands (``windlass.runtime.reporter.Reporter``)."""

    @property
    def command(self) -> Command:
        """The newest command of the control plane."""

    @property
    def fenced(self) -> bool:
        """Whether a newer attempt replaced this one, or the job ended."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Report one point of a series."""

    def event(self, code: str, message: str, **report: object) -> None:
        """Report an event."""

    def put(self, item: TrainerItem) -> int:
        """Report a checkpoint, its deletion, or the phases; returns the item's ordinal."""

    @property
    def acknowledged(self) -> int:
        """Ordinal of the newest item that the control plane acknowledged."""


class NullReporter:
    """The reporter of the ranks other than 0: it drops everything."""

    command = Command.CONTINUE
    fenced = False
    acknowledged = 0

    def metric(self, name: str, step: int, value: float) -> None:
        """Drop it."""

    def event(self, code: str, message: str, **report: object) -> None:
        """Drop it."""

    def put(self, item: TrainerItem) -> int:
        """Drop it."""
        del item
        return 0


class LossModule(nn.Module):
    """A model whose forward pass returns its task's loss, so that DistributedDataParallel can wrap it."""

    def __init__(self, model: nn.Module, task: TaskAdapter) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: TensorBatch) -> Tensor:
        """Return the summed loss of a micro-batch, a scalar."""
        return self._task.loss(self.model, batch)


@dataclass(frozen=True)
class TrainingInputs:
    """The model, data and settings of one training."""

    task: TaskAdapter
    model: nn.Module
    train: Sequence[EncodedExample]
    eval_examples: Sequence[EncodedExample]
    spec: ResolvedTraining
    max_seconds: float
    previous_seconds: float = 0.0
    """Training time of the previous attempts, which counts towards ``max_seconds``."""
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    """Wraps a module for data-parallel training and moves it to its device."""
    phases: PhaseClock = field(default_factory=PhaseClock)


class Trainer:
    """Trains one job on one rank."""

    def __init__(
        self,
        inputs: TrainingInputs,
        dist: DistributedContext,
        reporter: ProgressReporter,
        checkpoints: CheckpointStore | None,
        start: TrainingState | None,
    ) -> None:
        """``checkpoints`` is None on all ranks but 0. ``start`` is the checkpoint to resume from."""
        self._inputs, self._dist, self._reporter, self._checkpoints = inputs, dist, reporter, checkpoints
        self._phases = inputs.phases
        self._module = inputs.wrap(LossModule(inputs.model, inputs.task))
        self._parameters = trainable(inputs.model)
        spec = inputs.spec
        self._optimizer = adamw(self._parameters, spec.learning_rate, spec.weight_decay)
        self._plan = BatchPlan(
            [len(example.ids) for example in inputs.train], spec.batch_size * dist.world_size, spec.seed
        )
        self._weights = [example.weight for example in inputs.train]
        self.total_steps = total_steps(spec, self._plan.steps_per_epoch)
        self._eval_every = spec.eval_every_steps or self._plan.steps_per_epoch
        self._stride = max(1, self.total_steps // _MAX_CURVE_POINTS)
        self._use_bf16 = _use_bf16(spec, dist.device)
        self.progress = TrainingProgress()
        self._best: dict[str, Tensor] | None = None
        self._pending_losses: list[tuple[int, Tensor, Tensor, int]] = []
        self._last_flush = self._started_at = time.monotonic()
        self._last_line = 0.0
        self._seconds_before = inputs.previous_seconds
        self._saved_step = 0
        self._reported_checkpoints: list[tuple[int, int]] = []
        self._pruned: dict[CheckpointRef, int] = {}
        """Prefixes of obsolete checkpoints, and the ordinals of the reports that they will be deleted."""
        if start is not None:
            self._restore(start)

    def _restore(self, start: TrainingState) -> None:
        restore_weights(self._parameters, start.weights)
        restore_optimizer_state(self._optimizer, self._parameters, start.optimizer)
        self.progress = start.progress.model_copy(deep=True)
        self.progress.attempts += 1
        self._best = dict(start.best) if start.best is not None else None
        self._seconds_before = max(self._seconds_before, self.progress.trained_seconds)
        self._saved_step = self.progress.step

    def run(self) -> bool:
        """Train to the end; returns whether it stopped early. The model gets the best weights, or keeps the last.

        Raises:
            StoppedError: preempted (after a checkpoint was committed) or cancelled.
            AttemptFencedError: this attempt is fenced and must not write.
            TrainingError: ``loss_not_finite`` or ``max_duration_exceeded``.
        """
        self._started_at = self._last_flush = time.monotonic()
        self._phases.enter("training")
        self._inputs.model.train()
        while self.progress.step < self.total_steps and not self._patience_exhausted():
            step = self.progress.step + 1
            self._pending_losses.append((step, *self._step(step)))
            self.progress.step = step
            last = step == self.total_steps
            validate = last or step % self._eval_every == 0
            save = last or step % self._inputs.spec.checkpoint_every_steps == 0
            if validate or save or self._dist.world_size == 1 or step % _SYNC_EVERY_STEPS == 0:
                self._flush_metrics(force=validate or save)
                with self._phases.phase("evaluation"):
                    if validate:
                        self._validate()
                    if save:
                        self._save()
                self._delete_pruned()
                self._check_commands()
        stopped_early = self.progress.step < self.total_steps
        self._flush_metrics(force=True)
        self._phases.enter("evaluation")
        self._save()
        self._delete_pruned()
        if self._best is not None:
            restore_weights(self._parameters, self._best)
        return stopped_early

    def _patience_exhausted(self) -> bool:
        rule = self._inputs.spec.early_stopping
        return rule is not None and self.progress.patience_counter >= rule.patience

    def _step(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Do one optimizer step; returns this rank's part of the mean loss, the gradient norm and all ranks' tokens."""
        spec, dist = self._inputs.spec, self._dist
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(spec, step, self.total_steps)
        torch.manual_seed(_seed(spec.seed, step, dist.rank))
        rows = self._plan.rows(step)
        weight = max(1, sum(self._weights[i] for i in rows))
        parts = rank_micro_batches(rows, dist.rank, dist.world_size, spec.gradient_accumulation)
        total = torch.zeros((), device=dist.device)
        for number, part in enumerate(parts):
            loss = self._micro_batch(part, rows, weight, sync_gradients=number == len(parts) - 1)
            total += loss
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), spec.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total, norm, sum(len(self._inputs.train[i].ids) for i in rows)

    def _micro_batch(self, part: RowIndices, rows: RowIndices, weight: int, *, sync_gradients: bool) -> Tensor:
        with self._phases.phase("data_wait"):
            examples = [self._inputs.train[i] for i in (part if len(part) else rows[:1])]
            batch = to_device(self._inputs.task.collate(examples), self._dist.device)
        with self._gradient_sync(sync_gradients=sync_gradients), self._autocast():
            loss: Tensor = self._module(batch) * ((1.0 if len(part) else 0.0) / weight)
            # DDP averages the gradients over the ranks; the mean over all targets needs their sum
            (loss * self._dist.world_size).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._dist.device.type, dtype=torch.bfloat16, enabled=self._use_bf16)

    def _gradient_sync(self, *, sync_gradients: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the backward pass all-reduces the gradients, or only accumulates them."""
        if sync_gradients or not isinstance(self._module, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._module.no_sync()

    def _flush_metrics(self, *, force: bool) -> None:
        """Report the pending steps, at most once a second: each flush waits for the device."""
        now = time.monotonic()
        due = force or self._dist.world_size > 1 or now - self._last_flush >= _LOG_INTERVAL_SECONDS
        if not self._pending_losses or not due:
            return
        losses = self._dist.all_reduce_sum(
            torch.stack([loss for _, loss, _, _ in self._pending_losses]).double()
        ).tolist()
        norms = torch.stack([norm for _, _, norm, _ in self._pending_losses]).double().tolist()
        speed = sum(tokens for *_, tokens in self._pending_losses) / max(now - self._last_flush, 1e-9)
        for (step, *_), loss, norm in zip(self._pending_losses, losses, norms, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    "loss_not_finite",
                    f"the training loss is {loss} at step {step}; a lower learning rate or fp32 may help",
                )
            if step % self._stride == 0 or step == self.total_steps:
                self._log_metric("train_loss", step, loss)
                self._log_metric("grad_norm", step, norm)
                self._log_metric("learning_rate", step, learning_rate(self._inputs.spec, step, self.total_steps))
        last = self._pending_losses[-1][0]
        self._log_metric("tokens_per_second", last, speed)
        if force or now - self._last_line >= _LINE_INTERVAL_SECONDS:
            self._last_line = now
            rate = learning_rate(self._inputs.spec, last, self.total_steps)
            values = f"train_loss={losses[-1]:.4g} learning_rate={rate:.3g} tokens_per_second={speed:.0f}"
            self._log_line(f"step {last} of {self.total_steps}: {values}")
        self._pending_losses.clear()
        self._last_flush = now
        if self._phases.is_due():
            self._reporter.put(self._phases.report())

    def _log_line(self, text: str) -> None:
        """Log a line of progress. All ranks have the same values, so only rank 0 writes them."""
        if self._dist.is_main:
            _log.info(text)

    def _log_metric(self, name: str, step: int, value: float) -> None:
        self._reporter.metric(name, step, value)
        self.progress.curves.setdefault(name, []).append((step, value))

    def _validate(self) -> None:
        # without autocast: in the precision of the final evaluation and of serving, so that the numbers agree
        self._inputs.model.eval()
        scores = self._inputs.task.validate(self._inputs.model, self._inputs.eval_examples, self._dist)
        self._inputs.model.train()
        step, rule, progress = self.progress.step, self._inputs.spec.early_stopping, self.progress
        for name, value in scores.items():
            self._log_metric(f"eval_{name}", step, value)
        values = " ".join(f"{name}={value:.4g}" for name, value in scores.items())
        self._log_line(f"evaluation at step {step}: {values}")
        if rule is not None:
            state = EarlyStoppingState(progress.best_loss, progress.best_step, progress.patience_counter)
            state = state.update(scores["loss"], step, rule)
            progress.best_loss, progress.best_step = state.best_loss, state.best_step
            progress.patience_counter = state.patience_counter
        evaluation = BestEvaluation(step=step, score=self._inputs.task.selection_score(scores), loss=scores["loss"])
        if self._inputs.spec.keep == "best" and evaluation.is_better_than(progress.best):
            progress.best = evaluation
            self._best = {name: parameter.detach().cpu().clone() for name, parameter in self._parameters.items()}
        self._last_flush = time.monotonic()  # the validation must not count in tokens per second

    def _save(self) -> None:
        """Commit a checkpoint on rank 0, unless this step has one. Training continues when the disk is full."""
        if self._checkpoints is None or self._saved_step == self.progress.step:
            return
        self.progress.trained_seconds = self.seconds()
        state = TrainingState(
            self.progress, self._parameters, optimizer_state(self._optimizer, self._parameters), self._best
        )
        latest = {
            name: points[-1][1] for name, points in self.progress.curves.items() if name.startswith(("train_", "eval_"))
        }
        try:
            item = self._checkpoints.save(
                state, {name: value for name, value in latest.items() if math.isfinite(value)}
            )
        except (OSError, WindlassError) as error:
            self._reporter.event(
                "checkpoint_failed", f"the checkpoint of step {self.progress.step} was not written: {error}"
            )
            return
        self._saved_step = self.progress.step
        self._reporter.put(self._phases.report())  # before the checkpoint: the steps until now are kept
        self._reported_checkpoints.append((self._reporter.put(item), item.step))
        acknowledged = [step for ordinal, step in self._reported_checkpoints if ordinal <= self._reporter.acknowledged]
        for obsolete in self._checkpoints.obsolete(safe_step=max(acknowledged, default=0)):
            if obsolete not in self._pruned:
                pruned = CheckpointPrunedItem(attempt=obsolete.attempt, step=obsolete.step)
                self._pruned[obsolete] = self._reporter.put(pruned)
        self._last_flush = time.monotonic()

    def _delete_pruned(self) -> None:
        """Delete the files of obsolete checkpoints that the control plane does not list any more."""
        for obsolete, ordinal in list(self._pruned.items()):
            if self._checkpoints is not None and ordinal <= self._reporter.acknowledged:
                self._checkpoints.delete(obsolete)
                del self._pruned[obsolete]

    def _check_commands(self) -> None:
        """Stop on a command or at the maximum duration; an all-reduce gives every rank the same decision."""
        command = _FENCED_RANK if self._reporter.fenced else _COMMAND_RANK[self._reporter.command]
        overdue = self.seconds() > self._inputs.max_seconds
        combined = self._dist.all_reduce_max(command * 2 + overdue)
        command, overdue = combined // 2, bool(combined % 2)
        if command == _FENCED_RANK:
            raise AttemptFencedError
        if command == _COMMAND_RANK[Command.CANCEL]:
            raise StoppedError("cancelled")
        if command == _COMMAND_RANK[Command.PREEMPT]:
            self._flush_metrics(force=True)
            with self._phases.phase("evaluation"):
                self._save()
            raise StoppedError("preempted")
        if overdue and self.progress.step < self.total_steps:
            raise TrainingError(
                "max_duration_exceeded",
                f"training took longer than max_duration_seconds = {self._inputs.max_seconds:g} "
                f"and finished {self.progress.step} of {self.total_steps} steps",
            )

    def attempt_seconds(self) -> float:
        """Return the training time of this attempt so far."""
        return time.monotonic() - self._started_at

    def seconds(self) -> float:
        """Return the training time of this and the previous attempts."""
        return self._seconds_before + self.attempt_seconds()


def _seed(seed: int, step: int, rank: int) -> int:
    """Return a distinct seed for each (seed, step, rank) in use: odd multipliers modulo 2**63."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0x5851F42D4C957F2D + rank * 0x2545F4914F6CDD1D) % 2**63


def _use_bf16(spec: ResolvedTraining, device: torch.device) -> bool:
    if spec.precision != "auto":
        return spec.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
