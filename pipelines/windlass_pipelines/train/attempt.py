"""One attempt on one rank: data and model in, training, evaluation, artifact out."""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from windlass.domain.datasets import Split
from windlass.domain.errors import ChecksumMismatchError, NotFoundError
from windlass.domain.reports import ClaimReply, Command, Outcome
from windlass.runtime.artifacts import read_manifest, verify
from windlass.runtime.context import RunContext
from windlass_pipelines.report.facts import BaseModelFacts, ReportFacts
from windlass_pipelines.train.artifact import evaluation_of, write_artifact
from windlass_pipelines.train.batches import Example
from windlass_pipelines.train.checkpoints import Checkpoints, Snapshot
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.core import Job, Loop, Voice
from windlass_pipelines.train.facts import Story, data_facts, report_facts
from windlass_pipelines.train.methods import method_for
from windlass_pipelines.train.outcome import Conclusion, FencedOutError, StoppedError, TrainingError
from windlass_pipelines.train.rows import Row, read_splits
from windlass_pipelines.train.tasks import Judgement, TaskAdapter, adapter_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Data:
    rows: dict[Split, list[Row]]
    examples: dict[Split, list[Example]]
    truncated: int

    @property
    def watched(self) -> Split:
        """The split that is evaluated while training goes on."""
        return Split.VALIDATION if Split.VALIDATION in self.rows else Split.TEST

    @property
    def judged(self) -> Split:
        """The split that the result is judged by: one that early stopping has not looked at, where there is one."""
        return Split.TEST if Split.TEST in self.rows else Split.VALIDATION


class AttemptRun:
    """Runs one attempt on this rank."""

    def __init__(
        self, context: RunContext, claim: ClaimReply, ranks: Ranks, voice: Voice, wrap: Callable[[nn.Module], nn.Module]
    ) -> None:
        """``wrap`` makes a module data-parallel on its device."""
        self._context, self._claim, self._ranks, self._voice, self._wrap = context, claim, ranks, voice, wrap
        self._began = time.monotonic()
        self._clock: Callable[[], float] = lambda: 0.0

    @property
    def trained_seconds(self) -> float:
        """Training time of this attempt: so far, or in all when it has ended."""
        return self._clock()

    def run(self) -> Conclusion:
        """Train, evaluate, write the artifact.

        Raises:
            TrainingError: it cannot be done, now or in another attempt.
            StoppedError: the control plane said so.
            FencedOutError: this attempt may write no more.
        """
        spec = self._context.spec
        base = self._verified(self._context.base_model_prefix)
        data, task = self._read(base)
        torch.manual_seed(spec.training.seed)
        model = task.load(base).to(self._ranks.device)
        checkpoints = Checkpoints(
            self._context.store_root, self._context.checkpoint_prefix, self._claim.attempt, _identity(self._context)
        )
        start = self._resumed(checkpoints)
        before = start.progress.before if start else self._before(task, model, data)
        method = method_for(spec.method)
        model = method.prepare(model)
        job = Job(
            task=task,
            model=model,
            train=task.arrange(data.examples[Split.TRAIN]),
            held_out=data.examples[data.watched],
            spec=spec.training,
            max_seconds=spec.max_duration_seconds,
            earlier_seconds=self._claim.trained_seconds,
            wrap=self._wrap,
        )
        loop = Loop(job, self._ranks, self._voice, checkpoints if self._ranks.first else None, start)
        loop.progress.before = before
        sizes = _sizes(self._context.base_model, model)
        self._announce(loop, sizes, data)
        early = self._train(loop)
        merged = method.merge(model).eval()
        judgement = self._judge(task, merged, data, before)
        if not self._ranks.first:
            return Conclusion(outcome=Outcome.SUCCEEDED)
        facts = self._facts(data, sizes, loop, judgement, stopped_early=early)
        return self._write(task, merged, judgement, facts)

    def _resumed(self, checkpoints: Checkpoints) -> Snapshot | None:
        """Return where to go on from, the same on every rank, and tell what the control plane has not heard of it."""
        resume = self._claim.resume
        start = checkpoints.load(resume)
        step = start.progress.step if start else 0
        common = -self._ranks.highest(-step)
        if step > common:  # a trainer that has lost the fence may still be writing while the ranks look
            start = checkpoints.load(resume, at_most=common)
        heard = resume.step if resume else 0
        for name, points in start.progress.curves.items() if start else ():
            for at, value in points:
                if at > heard:
                    self._voice.metric(name, at, value)
        return start

    def _verified(self, prefix: str) -> Path:
        folder = self._context.store_root / prefix
        try:
            verify(folder, read_manifest(folder))
        except (ChecksumMismatchError, NotFoundError) as error:
            raise TrainingError("input_damaged", f"{prefix}: {error.message}") from error
        return folder

    def _read(self, base: Path) -> tuple[_Data, TaskAdapter]:
        rows = read_splits(self._verified(self._context.dataset_prefix))
        task = adapter_for(self._context.spec, base, rows[Split.TRAIN])
        encoded = {split: task.encode(content) for split, content in rows.items()}
        examples = {split: found for split, (found, _) in encoded.items()}
        return _Data(rows, examples, sum(cut for _, cut in encoded.values())), task

    def _before(self, task: TaskAdapter, model: nn.Module, data: _Data) -> Judgement | None:
        model.eval()
        return _finite(task.before(model, data.rows[data.judged], data.examples[data.judged], self._ranks))

    def _announce(self, loop: Loop, sizes: BaseModelFacts, data: _Data) -> None:
        step = loop.progress.step
        facts = {"steps": loop.total, "rows": len(data.rows[Split.TRAIN]), "trainable": sizes.trainable}
        if step:
            self._voice.event("training_resumed", f"goes on after step {step} of {loop.total}", step=step, **facts)
        else:
            self._voice.event("training_started", f"{loop.total} steps over {facts['rows']} rows", **facts)

    def _train(self, loop: Loop) -> bool:
        self._clock = loop.attempt_seconds
        early = loop.run()
        trained = loop.attempt_seconds()
        self._clock = lambda: trained
        step = loop.progress.step
        self._voice.event("training_finished", f"trained {step} steps", step=step, stopped_early=early)
        return early

    def _judge(self, task: TaskAdapter, model: nn.Module, data: _Data, before: Judgement | None) -> Judgement:
        split = data.judged
        judgement = task.judge(model, data.rows[split], data.examples[split], self._ranks, before)
        kept = _finite(judgement) or judgement
        self._voice.event("evaluation_finished", f"judged on the {split.value} split", **kept.metrics)
        return kept

    def _facts(
        self, data: _Data, sizes: BaseModelFacts, loop: Loop, judgement: Judgement, *, stopped_early: bool
    ) -> ReportFacts:
        lengths = {split: [len(example.ids) for example in found] for split, found in data.examples.items()}
        device = self._ranks.device
        story = Story(
            base=sizes,
            data=data_facts(self._context, data.rows, lengths, data.truncated),
            progress=loop.progress,
            judgement=judgement,
            evaluated_on=data.judged,
            stopped_early=stopped_early,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            wall_seconds=time.monotonic() - self._began,
        )
        return report_facts(self._context, story)

    def _write(self, task: TaskAdapter, model: nn.Module, judgement: Judgement, facts: ReportFacts) -> Conclusion:
        if self._voice.fenced:
            raise FencedOutError
        if self._voice.command is Command.CANCEL:
            raise StoppedError("cancelled")
        evaluation = evaluation_of(judgement, facts)
        prefix = f"{self._context.artifact_prefix}/{self._claim.attempt}"
        manifest = write_artifact(self._context, self._context.store_root / prefix, task, model, evaluation, facts)
        return Conclusion(
            outcome=Outcome.SUCCEEDED,
            artifact_prefix=prefix,
            manifest=manifest,
            evaluation=evaluation,
            trained_seconds=self.trained_seconds,
        )


def threads_for(slots: int) -> int:
    """Return how many threads a worker of ``slots`` CPU slots computes with: a machine has two slots."""
    return max(1, len(os.sched_getaffinity(0)) // 2 * slots)


def _finite(judgement: Judgement | None) -> Judgement | None:
    """Drop what JSON cannot carry; a gate on a metric that is missing does not pass."""
    if judgement is None:
        return None
    kept = {name: value for name, value in judgement.metrics.items() if abs(value) < float("inf")}
    return judgement.model_copy(update={"metrics": kept})


def _identity(context: RunContext) -> str:
    """Return a digest of all that the course of training depends on: another one cannot go on from its checkpoints."""
    spec = context.spec
    parts = (
        context.job,
        context.dataset_version,
        context.base_model,
        spec.method.model_dump_json(),
        spec.training.model_dump_json(),
        str(spec.resources.workers),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _sizes(name: str, model: nn.Module) -> BaseModelFacts:
    parameters = list(model.parameters())
    return BaseModelFacts(
        name=name,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )
