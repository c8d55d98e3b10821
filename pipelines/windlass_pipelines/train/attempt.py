"""One attempt on one rank: load data and model, train, evaluate, write the artifact."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from windlass.domain.datasets import Split
from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.domain.reports import AcquireAttemptReply, Command, JobWarning, ResultStatus
from windlass.domain.specs import Task
from windlass.domain.training_defaults import plan_training, resolve_max_length
from windlass.domain.training_report import BaseModelInfo, TrainingReport
from windlass.kit.failpoints import failpoint
from windlass.kit.numbers import count
from windlass.ports import FolderTransfer
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunContext, RunEnvironment
from windlass_pipelines.rows import Row
from windlass_pipelines.train.artifact import evaluation_summary, write_artifact
from windlass_pipelines.train.baselines import classification_baselines
from windlass_pipelines.train.batches import EncodedExample
from windlass_pipelines.train.checkpoints import CheckpointStore, TrainingState
from windlass_pipelines.train.diagnosis import REPORT_NOT_WRITTEN, data_warnings, diagnose, with_margin
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.input_files import fetch_once
from windlass_pipelines.train.methods import method_for
from windlass_pipelines.train.models import load_config
from windlass_pipelines.train.phases import PhaseClock
from windlass_pipelines.train.pooling import MEAN, OWN_HEAD, needs_mean_pooling
from windlass_pipelines.train.report_data import TrainingSummary, build_report_data, describe_dataset
from windlass_pipelines.train.result import AttemptFencedError, AttemptResult, StoppedError, TrainingError
from windlass_pipelines.train.rows import read_splits
from windlass_pipelines.train.tasks import EvaluationResult, TaskAdapter, adapter_for
from windlass_pipelines.train.trainer import ProgressReporter, Trainer, TrainingInputs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Data:
    rows: dict[Split, list[Row]]
    examples: dict[Split, list[EncodedExample]]
    truncated: int
    skipped: dict[Split, int]
    """Incomplete rows; they are not in ``rows``."""
    dropped: dict[Split, int]
    """Rows of which no target is within ``max_length``; they are not in ``rows``."""

    @property
    def validation_split(self) -> Split:
        """The split that is evaluated during training."""
        return Split.VALIDATION if Split.VALIDATION in self.rows else Split.TEST

    @property
    def eval_split(self) -> Split:
        """The split of the final evaluation: test, which early stopping does not use, or else validation."""
        return Split.TEST if Split.TEST in self.rows else Split.VALIDATION

    def also_trained_on(self) -> int:
        """Return the number of rows of the final evaluation that are training rows too."""
        trained = {_content(row) for row in self.rows[Split.TRAIN]}
        return sum(_content(row) in trained for row in self.rows[self.eval_split])


class AttemptRun:
    """Runs one attempt on this rank."""

    def __init__(
        self,
        environment: RunEnvironment,
        acquired: AcquireAttemptReply,
        dist: DistributedContext,
        reporter: ProgressReporter,
        transfer: FolderTransfer,
        wrap: Callable[[nn.Module], nn.Module],
    ) -> None:
        """``wrap`` wraps a module for data-parallel training on its device."""
        self.phases = PhaseClock()
        self._context, self._acquired, self._dist, self._reporter = environment.context, acquired, dist, reporter
        self._transfer, self._wrap = transfer, wrap
        attempt_folder = environment.workspace / "attempts" / str(acquired.attempt)
        self._work, self._inputs = attempt_folder / f"rank{dist.rank}", attempt_folder / "inputs"
        self._started_at = time.monotonic()
        self._clock: Callable[[], float] = lambda: 0.0

    @property
    def world_size(self) -> int:
        """Number of training processes."""
        return self._dist.world_size

    @property
    def trained_seconds(self) -> float:
        """Training time of this attempt so far."""
        return self._clock()

    def run(self) -> AttemptResult:
        """Train, evaluate, write the artifact.

        Raises:
            TrainingError: training failed; another attempt would fail the same way.
            StoppedError: the control plane requested a stop.
            AttemptFencedError: this attempt is fenced and must not write.
        """
        self._delete_earlier_work()
        try:
            return self._run()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
            if self._dist.is_main:  # the last process that reads them
                shutil.rmtree(self._inputs, ignore_errors=True)

    def _delete_earlier_work(self) -> None:
        """Delete the temporary files of killed attempts."""
        if self._dist.is_main and (attempts := self._work.parents[1]).is_dir():
            for folder in attempts.iterdir():
                if folder.name != str(self._acquired.attempt):
                    shutil.rmtree(folder, ignore_errors=True)

    def _run(self) -> AttemptResult:
        spec, locations = self._context.spec, self._context.locations
        base = self._fetch_input("base model", locations.base_model)
        data, task = self._read(base)
        plan = plan_training(spec, len(data.rows[Split.TRAIN]), self.world_size).training
        torch.manual_seed(plan.seed)
        model = task.load(base).to(self._dist.device)
        checkpoints = CheckpointStore(
            self._transfer, locations, self._work, self._inputs, self._acquired.attempt, _fingerprint(self._context)
        )
        start = self._resume_state(checkpoints)
        baseline = start.progress.baseline if start else self._evaluate_baseline(task, model, data)
        method = method_for(spec.method)
        model = method.prepare(model)
        inputs = TrainingInputs(
            task=task,
            model=model,
            train=task.prepare_examples(data.examples[Split.TRAIN]),
            eval_examples=data.examples[data.validation_split],
            spec=plan,
            max_seconds=spec.max_duration_seconds,
            previous_seconds=self._acquired.trained_seconds,
            wrap=self._wrap,
            phases=self.phases,
        )
        trainer = Trainer(inputs, self._dist, self._reporter, checkpoints if self._dist.is_main else None, start)
        trainer.progress.baseline = baseline
        model_info = _describe_model(self._context, base, model)
        self._log_plan(trainer, model_info, data)
        early = self._train(trainer)
        merged = method.merge(model).eval()
        evaluation = self._evaluate(task, merged, data, baseline)
        if not self._dist.is_main:
            return AttemptResult(outcome=ResultStatus.SUCCEEDED)
        evaluation = with_margin(baseline, self._compare(task, data, evaluation))
        diagnosed = diagnose(spec, plan.epochs, trainer.progress, evaluation)
        for warning in diagnosed:
            self._reporter.event(warning.code, f"warning: {warning.message}")
        report = self._report_data(data, model_info, trainer, evaluation, stopped_early=early)
        warnings = (*data_warnings(report), *diagnosed)
        report = report.model_copy(update={"warnings": (*self._context.inputs.warnings, *warnings)})
        return self._write(task, merged, evaluation, report, warnings)

    def _resume_state(self, checkpoints: CheckpointStore) -> TrainingState | None:
        """Load the same checkpoint on every rank; report its metrics that the control plane does not have yet."""
        resume = self._acquired.resume
        start = checkpoints.load(resume)
        step = start.progress.step if start else 0
        common = -self._dist.all_reduce_max(-step)
        if step > common:  # a fenced trainer may still write checkpoints while the ranks load
            start = checkpoints.load(resume, max_step=common)
        reported = resume.step if resume else 0
        for name, points in start.progress.curves.items() if start else ():
            for point_step, value in points:
                if point_step > reported:
                    self._reporter.metric(name, point_step, value)
        return start

    def _fetch_input(self, name: str, uri: str) -> Path:
        try:
            folder = fetch_once(self._transfer, uri, self._inputs / name.replace(" ", "-"))
            verify(folder)
        except (ChecksumMismatchError, NotFoundError) as error:
            raise TrainingError("input_damaged", f"the {name} is damaged: {error.message}") from error
        return folder

    def _read(self, base: Path) -> tuple[_Data, TaskAdapter]:
        rows, skipped = read_splits(self._fetch_input("dataset", self._context.locations.dataset))
        task = adapter_for(self._context.spec, base, rows[Split.TRAIN])
        used_rows: dict[Split, list[Row]] = {}
        examples: dict[Split, list[EncodedExample]] = {}
        dropped: dict[Split, int] = {}
        truncated = 0
        for split, content in rows.items():
            encoded, too_long = task.encode(content)
            used = [i for i, example in enumerate(encoded) if example.weight]
            used_rows[split], examples[split] = [content[i] for i in used], [encoded[i] for i in used]
            truncated += max(0, too_long - (len(content) - len(used)))
            if len(used) < len(content):
                dropped[split] = len(content) - len(used)
        return _Data(used_rows, examples, truncated, skipped, dropped), task

    def _evaluate_baseline(self, task: TaskAdapter, model: nn.Module, data: _Data) -> EvaluationResult | None:
        split = data.eval_split
        model.eval()
        with self.phases.phase("evaluation"):
            scored = task.evaluate_baseline(model, data.rows[split], data.examples[split], self._dist)
        return _drop_non_finite(scored)

    def _log_plan(self, trainer: Trainer, model_info: BaseModelInfo, data: _Data) -> None:
        step = trainer.progress.step
        total, rows = trainer.total_steps, len(data.rows[Split.TRAIN])
        details = {"steps": total, "rows": rows, "trainable": model_info.trainable}
        limit = resolve_max_length(self._context.spec.training)
        for split, number in data.dropped.items():
            message = f"training skips {count(number, 'row')} of split {split}: no answer begins within {limit} tokens"
            self._reporter.event("rows_dropped", message, split=split.value, rows=number, max_length=limit)
            self._reporter.metric(f"rows_dropped_{split.value}", step, number)
        if data.truncated:
            message = f"training truncates {count(data.truncated, 'row')} to {limit} tokens"
            self._reporter.event("rows_truncated", message, rows=data.truncated, max_length=limit)
        if step:
            self._reporter.event("training_resumed", f"resumed after step {step} of {total}", step=step, **details)
        else:
            self._reporter.event("training_started", f"{count(total, 'step')} over {count(rows, 'row')}", **details)

    def _train(self, trainer: Trainer) -> bool:
        self._clock = trainer.attempt_seconds
        early = trainer.run()
        trained = trainer.attempt_seconds()
        self._clock = lambda: trained
        step, best = trainer.progress.step, trainer.progress.best
        kept = f", keeps the weights of step {best.step}" if best is not None and best.step != step else ""
        self._reporter.event(
            "training_finished", f"trained {count(step, 'step')}{kept}", step=step, stopped_early=early
        )
        return early

    def _evaluate(
        self, task: TaskAdapter, model: nn.Module, data: _Data, baseline: EvaluationResult | None
    ) -> EvaluationResult:
        split = data.eval_split
        evaluation = task.evaluate(model, data.rows[split], data.examples[split], self._dist, baseline)
        evaluation = _drop_non_finite(evaluation) or evaluation
        rows, seen = len(data.rows[split]), data.also_trained_on()
        message = f"evaluated on {count(rows, 'row')} of the {split} split"
        if seen:
            message += ", the rows it was trained on" if seen == rows else f", {seen:,} of them also in train"
        self._reporter.event("evaluation_finished", message, also_trained_on=seen, **evaluation.metrics)
        return evaluation

    def _compare(self, task: TaskAdapter, data: _Data, evaluation: EvaluationResult) -> EvaluationResult:
        """Add the scores of simple models on the same rows."""
        if not task.labels:
            return evaluation
        rows = data.rows[data.eval_split]
        scores = classification_baselines(data.rows[Split.TRAIN], rows, task.labels)
        return evaluation.model_copy(update={"baselines": scores})

    def _report_data(
        self,
        data: _Data,
        model_info: BaseModelInfo,
        trainer: Trainer,
        evaluation: EvaluationResult,
        *,
        stopped_early: bool,
    ) -> TrainingReport:
        lengths = {split: [len(example.ids) for example in examples] for split, examples in data.examples.items()}
        device = self._dist.device
        summary = TrainingSummary(
            base=model_info,
            data=describe_dataset(self._context, data.rows, lengths, data.truncated).model_copy(
                update={"skipped": data.skipped, "dropped": data.dropped, "also_trained_on": data.also_trained_on()}
            ),
            progress=trainer.progress,
            evaluation=evaluation,
            evaluated_on=data.eval_split,
            stopped_early=stopped_early,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            world_size=self.world_size,
            wall_seconds=time.monotonic() - self._started_at,
        )
        return build_report_data(self._context, summary)

    def _write(
        self,
        task: TaskAdapter,
        model: nn.Module,
        evaluation: EvaluationResult,
        report: TrainingReport,
        warnings: Sequence[JobWarning],
    ) -> AttemptResult:
        if self._reporter.fenced:
            raise AttemptFencedError
        if self._reporter.command is Command.CANCEL:
            raise StoppedError("cancelled")
        summary = evaluation_summary(evaluation, report)
        folder = self._work / "artifact"
        folder.mkdir(parents=True)
        if not write_artifact(self._context, folder, task, model, report):
            self._reporter.event(REPORT_NOT_WRITTEN.code, f"warning: {REPORT_NOT_WRITTEN.message}")
            warnings = (*warnings, REPORT_NOT_WRITTEN)
        failpoint("artifact.written")
        manifest = self._transfer.publish(folder, self._context.locations.artifact(self._acquired.attempt))
        failpoint("artifact.published")
        return AttemptResult(
            outcome=ResultStatus.SUCCEEDED,
            manifest=manifest,
            evaluation=summary,
            warnings=tuple(warnings),
            trained_seconds=self.trained_seconds,
        )


def torch_threads(environment: RunEnvironment) -> int:
    """Return the number of torch threads of a training process.

    It is set in a pod, where the CPUs of the node say nothing. A machine without a cluster has two CPU slots; the
    processes of several GPUs share its CPUs.
    """
    context, cpus = environment.context, len(os.sched_getaffinity(0))
    slots = context.spec.resources.gpus // context.inputs.world_size
    return environment.cpu_threads or max(1, min(cpus // 2 * slots, cpus // context.inputs.world_size))


def _drop_non_finite(evaluation: EvaluationResult | None) -> EvaluationResult | None:
    """Drop metrics that are not finite, which JSON cannot hold; a gate on a missing metric does not pass."""
    if evaluation is None:
        return None
    finite = {name: value for name, value in evaluation.metrics.items() if abs(value) < float("inf")}
    dropped = tuple(name for name in evaluation.metrics if name not in finite)
    return evaluation.model_copy(update={"metrics": finite, "not_finite": dropped})


def _fingerprint(context: RunContext) -> str:
    """Return a digest of the job, data and training settings; checkpoints with another digest are not resumed."""
    spec = context.spec
    parts = (
        context.identity.job,
        context.inputs.dataset_version,
        context.inputs.base_model,
        spec.method.model_dump_json(),
        spec.training.model_dump_json(),
        str(context.inputs.world_size),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _content(row: Row) -> str:
    return json.dumps({name: value for name, value in row.items() if name != "group"}, sort_keys=True)


def _describe_model(context: RunContext, base: Path, model: nn.Module) -> BaseModelInfo:
    pooling = ""
    if context.spec.task is Task.TEXT_CLASSIFICATION:
        pooling = MEAN if needs_mean_pooling(base, load_config(base)) else OWN_HEAD
    parameters = list(model.parameters())
    return BaseModelInfo(
        name=context.inputs.base_model,
        licence=context.inputs.base_model_licence,
        pooling=pooling,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )
