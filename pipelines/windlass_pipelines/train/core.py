"""The one training loop: optimiser steps with accumulation and clipping, evaluation, checkpoints, early stopping.

It knows neither Ray nor the control plane. Everything random is drawn from a seed of (seed, step, rank), so a run that
was stopped and resumed computes what it would have computed.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from windlass.domain.reports import CheckpointItem, Command
from windlass.domain.specs import TrainingSpec
from windlass_pipelines.train.batches import BatchPlan, Example, Rows, share
from windlass_pipelines.train.checkpoints import Checkpoints, Progress, Snapshot
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.optimizer import adamw, moments, restore_moments, restore_weights, trainable
from windlass_pipelines.train.outcome import FencedOutError, StoppedError, TrainingError
from windlass_pipelines.train.schedule import Patience, learning_rate, total_steps
from windlass_pipelines.train.tasks import TaskAdapter, TensorBatch, to_device

_TELL_SECONDS = 1.0
_MEET_STEPS = 10
"""With several ranks, every how many steps they agree on losses and commands: each agreement waits for the device."""
_CURVE_POINTS = 5000
_ORDERS = {Command.CONTINUE: 0, Command.PREEMPT: 1, Command.CANCEL: 2}
_FENCED = 3


class Voice(Protocol):
    """Where the loop tells what it does, and hears what it is told (``windlass.runtime.reporter.Reporter``)."""

    @property
    def command(self) -> Command:
        """What the control plane last said."""

    @property
    def fenced(self) -> bool:
        """Whether this attempt is no longer the live one."""

    def metric(self, name: str, step: int, value: float) -> None:
        """Tell one point of a series."""

    def event(self, code: str, message: str, **facts: object) -> None:
        """Tell a fact."""

    def put(self, item: CheckpointItem) -> int:
        """Tell of a checkpoint; returns its ordinal."""

    @property
    def acknowledged(self) -> int:
        """Ordinal of the newest item that was heard."""


class Silence:
    """The voice of the ranks that do not report."""

    command = Command.CONTINUE
    fenced = False
    acknowledged = 0

    def metric(self, name: str, step: int, value: float) -> None:
        """Drop it."""

    def event(self, code: str, message: str, **facts: object) -> None:
        """Drop it."""

    def put(self, item: CheckpointItem) -> int:
        """Drop it."""
        del item
        return 0


class LossModule(nn.Module):
    """A model with its task's loss as the forward pass: what data-parallel training wraps."""

    def __init__(self, model: nn.Module, task: TaskAdapter) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, batch: TensorBatch) -> Tensor:
        """Return the summed loss of a micro-batch."""
        return self._task.loss(self.model, batch)


@dataclass(frozen=True)
class Job:
    """What is trained, on what, by which rules."""

    task: TaskAdapter
    model: nn.Module
    train: Sequence[Example]
    held_out: Sequence[Example]
    spec: TrainingSpec
    max_seconds: float
    earlier_seconds: float = 0.0
    """Training time of the attempts before this one, which counts towards ``max_seconds``."""
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    """Makes a module data-parallel; moves it to its device."""


class Loop:
    """Trains one job on one rank."""

    def __init__(
        self, job: Job, ranks: Ranks, voice: Voice, checkpoints: Checkpoints | None, start: Snapshot | None
    ) -> None:
        """``checkpoints`` is None on all ranks but the first. ``start`` is where an earlier attempt stopped."""
        self._job, self._ranks, self._voice, self._checkpoints = job, ranks, voice, checkpoints
        self._module = job.wrap(LossModule(job.model, job.task))
        self._parameters = trainable(job.model)
        spec = job.spec
        self._optimizer = adamw(self._parameters, spec.learning_rate, spec.weight_decay)
        self._plan = BatchPlan([len(example.ids) for example in job.train], spec.batch_size * ranks.size, spec.seed)
        self._weights = [example.weight for example in job.train]
        self.total = total_steps(spec, self._plan.steps_per_epoch)
        self._eval_every = spec.eval_every_steps or self._plan.steps_per_epoch
        self._stride = max(1, self.total // _CURVE_POINTS)
        self._bf16 = _bf16(spec, ranks.device)
        self.progress = Progress()
        self._best: dict[str, Tensor] | None = None
        self._untold: list[tuple[int, Tensor, Tensor, int]] = []
        self._told_at = self._began = time.monotonic()
        self._seconds_before = job.earlier_seconds
        self._saved_step = 0
        self._reported: list[tuple[int, int]] = []
        if start is not None:
            self._restore(start)

    def _restore(self, start: Snapshot) -> None:
        restore_weights(self._parameters, start.weights)
        restore_moments(self._optimizer, self._parameters, start.optimizer)
        self.progress = start.progress.model_copy(deep=True)
        self.progress.attempts += 1
        self._best = dict(start.best) if start.best is not None else None
        self._seconds_before = max(self._seconds_before, self.progress.trained_seconds)
        self._saved_step = self.progress.step

    def run(self) -> bool:
        """Train to the end; returns whether it stopped early. The best weights are in the model when it may.

        Raises:
            StoppedError: preempted (a checkpoint was committed) or cancelled.
            FencedOutError: this attempt may write no more.
            TrainingError: ``loss_not_finite`` or ``max_duration_exceeded``.
        """
        self._began = self._told_at = time.monotonic()
        self._job.model.train()
        while self.progress.step < self.total and not self._exhausted():
            step = self.progress.step + 1
            self._untold.append((step, *self._step(step)))
            self.progress.step = step
            last = step == self.total
            evaluates = last or step % self._eval_every == 0
            saves = last or step % self._job.spec.checkpoint_every_steps == 0
            if evaluates or saves or self._ranks.size == 1 or step % _MEET_STEPS == 0:
                self._tell(everything=evaluates or saves)
                if evaluates:
                    self._evaluate()
                if saves:
                    self._save()
                self._obey()
        early = self.progress.step < self.total
        self._tell(everything=True)
        self._save()
        if self._best is not None:
            restore_weights(self._parameters, self._best)
        return early

    def _exhausted(self) -> bool:
        rule = self._job.spec.early_stopping
        return rule is not None and self.progress.waited >= rule.patience

    def _step(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Do one optimiser step; returns loss (this rank's part of the mean), gradient norm and tokens of all ranks."""
        spec, ranks = self._job.spec, self._ranks
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(spec, step, self.total)
        torch.manual_seed(_seed(spec.seed, step, ranks.rank))
        rows = self._plan.rows(step)
        weight = max(1, sum(self._weights[i] for i in rows))
        parts = share(rows, ranks.rank, ranks.size, spec.gradient_accumulation)
        total = torch.zeros((), device=ranks.device)
        for number, part in enumerate(parts):
            loss = self._micro_batch(part, rows, weight, exchange=number == len(parts) - 1)
            total += loss
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), spec.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total, norm, sum(len(self._job.train[i].ids) for i in rows)

    def _micro_batch(self, part: Rows, rows: Rows, weight: int, *, exchange: bool) -> Tensor:
        examples = [self._job.train[i] for i in (part if len(part) else rows[:1])]
        batch = to_device(self._job.task.collate(examples), self._ranks.device)
        with self._exchanging(exchange=exchange), self._mixed():
            loss: Tensor = self._module(batch) * ((1.0 if len(part) else 0.0) / weight)
            # data-parallel training averages the gradients over the ranks; the mean over targets wants their sum
            (loss * self._ranks.size).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self._ranks.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def _exchanging(self, *, exchange: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context in which gradients pass between the ranks, or are kept for the next micro-batch."""
        if exchange or not isinstance(self._module, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._module.no_sync()

    def _tell(self, *, everything: bool) -> None:
        """Report the steps since the last time: at most once a second, so that losses leave the device in batches."""
        now = time.monotonic()
        due = everything or self._ranks.size > 1 or now - self._told_at >= _TELL_SECONDS
        if not self._untold or not due:
            return
        losses = self._ranks.total(torch.stack([loss for _, loss, _, _ in self._untold]).double()).tolist()
        norms = torch.stack([norm for _, _, norm, _ in self._untold]).double().tolist()
        speed = sum(tokens for *_, tokens in self._untold) / max(now - self._told_at, 1e-9)
        for (step, *_), loss, norm in zip(self._untold, losses, norms, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    "loss_not_finite",
                    f"the training loss is {loss} at step {step}; a lower learning rate or fp32 may help",
                )
            if step % self._stride == 0 or step == self.total:
                self._point("train_loss", step, loss)
                self._point("grad_norm", step, norm)
                self._point("learning_rate", step, learning_rate(self._job.spec, step, self.total))
        self._point("tokens_per_second", self._untold[-1][0], speed)
        self._untold.clear()
        self._told_at = now

    def _point(self, name: str, step: int, value: float) -> None:
        self._voice.metric(name, step, value)
        self.progress.curves.setdefault(name, []).append((step, value))

    def _evaluate(self) -> None:
        self._job.model.eval()
        with self._mixed():
            scores = self._job.task.evaluate(self._job.model, self._job.held_out, self._ranks)
        self._job.model.train()
        step, rule, progress = self.progress.step, self._job.spec.early_stopping, self.progress
        for name, value in scores.items():
            self._point(f"eval_{name}", step, value)
        if rule is not None:
            before = Patience(progress.best_loss, progress.best_step, progress.waited)
            after = before.after(scores["loss"], step, rule)
            progress.best_loss, progress.best_step, progress.waited = after.best, after.best_step, after.waited
            if after.best_step == step:
                self._best = {name: parameter.detach().cpu().clone() for name, parameter in self._parameters.items()}
        self._told_at = time.monotonic()  # an evaluation is no training time: it must not lower tokens per second

    def _save(self) -> None:
        """Commit a checkpoint on the first rank, unless this step has one. A full disk costs it, and not the job."""
        if self._checkpoints is None or self._saved_step == self.progress.step:
            return
        self.progress.trained_seconds = self.seconds()
        snapshot = Snapshot(self.progress, self._parameters, moments(self._optimizer, self._parameters), self._best)
        latest = {
            name: points[-1][1] for name, points in self.progress.curves.items() if name.startswith(("train_", "eval_"))
        }
        try:
            item = self._checkpoints.save(
                snapshot, {name: value for name, value in latest.items() if math.isfinite(value)}
            )
        except OSError as error:
            self._voice.event(
                "checkpoint_failed", f"the checkpoint of step {self.progress.step} was not written: {error}"
            )
            return
        self._saved_step = self.progress.step
        self._reported.append((self._voice.put(item), item.step))
        heard = [step for ordinal, step in self._reported if ordinal <= self._voice.acknowledged]
        self._checkpoints.prune(safe_step=max(heard, default=0))
        self._told_at = time.monotonic()

    def _obey(self) -> None:
        """Do as the control plane says; every rank hears what the first one was told."""
        heard = _FENCED if self._voice.fenced else _ORDERS[self._voice.command]
        overdue = self.seconds() > self._job.max_seconds
        order = self._ranks.highest(heard * 2 + overdue)
        heard, overdue = order // 2, bool(order % 2)
        if heard == _FENCED:
            raise FencedOutError
        if heard == _ORDERS[Command.CANCEL]:
            raise StoppedError("cancelled")
        if heard == _ORDERS[Command.PREEMPT]:
            self._tell(everything=True)
            self._save()
            raise StoppedError("preempted")
        if overdue and self.progress.step < self.total:
            raise TrainingError(
                "max_duration_exceeded",
                f"training took longer than max_duration_seconds = {self._job.max_seconds:g} "
                f"and had done {self.progress.step} of {self.total} steps",
            )

    def attempt_seconds(self) -> float:
        """Return the training time of this attempt so far."""
        return time.monotonic() - self._began

    def seconds(self) -> float:
        """Return the training time of all attempts that led here."""
        return self._seconds_before + self.attempt_seconds()


def _seed(seed: int, step: int, rank: int) -> int:
    """Return a seed for one step of one rank: distinct for all that occur, by an odd multiplier modulo 2**63."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0x5851F42D4C957F2D + rank * 0x2545F4914F6CDD1D) % 2**63


def _bf16(spec: TrainingSpec, device: torch.device) -> bool:
    if spec.precision != "auto":
        return spec.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
