"""Resumable training state, published at ``<checkpoints>/<attempt>/<step>``, without pickle.

``weights.safetensors`` holds the trained weights, ``optimizer.safetensors`` the moments (``<field>/<weight>``),
``best.safetensors`` the weights of the best evaluation unless the job keeps the last, ``state.json`` counters and
curves. Data order, learning rate and random numbers are functions of seed and step, so they need no state.
"""

import errno
import json
import logging
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from windlass.domain.errors import UnavailableError, WindlassError
from windlass.domain.reports import CheckpointItem, ResumePoint
from windlass.kit.failpoints import failpoint
from windlass.ports import FolderTransfer
from windlass.runtime.artifacts import verify
from windlass.runtime.context import RunLocations
from windlass_pipelines.train.input_files import fetch_once
from windlass_pipelines.train.tasks import EvaluationResult

KEEP_LATEST = 2
_FORMAT = 1
_log = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
Curves = dict[str, list[tuple[int, float]]]


class BestEvaluation(BaseModel):
    """The evaluation during training whose weights are registered; a higher ``score`` is better."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")
    step: int
    score: float
    loss: float

    def is_better_than(self, other: "BestEvaluation | None") -> bool:
        """Compare by score, then by loss; an evaluation with NaN is never better."""
        if math.isnan(self.score) or math.isnan(self.loss):
            return False
        return other is None or (self.score, -self.loss) > (other.score, -other.loss)


class TrainingProgress(BaseModel):
    """Counters, metrics and early stopping state after an optimizer step."""

    model_config = ConfigDict(ser_json_inf_nan="strings")
    step: int = 0
    trained_seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    patience_counter: int = 0
    best: BestEvaluation | None = None
    attempts: int = 1
    curves: Curves = {}
    baseline: EvaluationResult | None = None


class _StateFile(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    format: int = _FORMAT
    fingerprint: str
    progress: TrainingProgress


@dataclass(frozen=True)
class TrainingState:
    """Everything that a training needs to resume after an optimizer step."""

    progress: TrainingProgress
    weights: Tensors
    optimizer: Tensors
    best: Tensors | None


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint of a job; several attempts may have one of the same step."""

    step: int
    attempt: int

    @property
    def order(self) -> tuple[int, int]:
        """Later steps first train further; of the same step, the later attempt wrote the newer one."""
        return self.step, self.attempt


class CheckpointStore:
    """Reads the checkpoints of a job and publishes those of one attempt.

    Args:
        transfer: where the checkpoints are published.
        locations: of the run.
        work: a folder of this process.
        inputs: a folder of all processes of the attempt on this node.
        attempt: number of this attempt.
        fingerprint: identifies job, data and settings; checkpoints with another fingerprint are ignored.
    """

    def __init__(
        self,
        transfer: FolderTransfer,
        locations: RunLocations,
        work: Path,
        inputs: Path,
        attempt: int,
        fingerprint: str,
    ) -> None:
        self._transfer, self._locations, self._work, self._inputs = transfer, locations, work, inputs
        self._attempt, self._fingerprint = attempt, fingerprint

    def save(self, state: TrainingState, metrics: dict[str, float]) -> CheckpointItem:
        """Publish a checkpoint; returns the item to report.

        Raises:
            OSError, WindlassError: it could not be stored, for example on a full disk; no partial checkpoint remains.
        """
        step = state.progress.step
        content = _StateFile(fingerprint=self._fingerprint, progress=state.progress)
        folder = self._work / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        try:
            _write(folder / "weights.safetensors", state.weights)
            _write(folder / "optimizer.safetensors", state.optimizer)
            if state.best is not None:
                _write(folder / "best.safetensors", state.best)
            (folder / "state.json").write_text(content.model_dump_json(), encoding="utf-8")
            failpoint("checkpoint.written")
            manifest = self._transfer.publish(folder, self._locations.checkpoint(self._attempt, step))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        failpoint("checkpoint.published")
        return CheckpointItem(step=step, manifest=manifest, metrics=metrics, time=datetime.now(UTC))

    def obsolete(self, *, safe_step: int) -> list[CheckpointRef]:
        """Return the checkpoints to delete: all but the newest two. Their deletion is reported before it is done.

        ``safe_step`` is the newest step that the control plane acknowledged. The newest checkpoint up to it, and all
        later ones, are kept.
        """
        published = self._published()
        acknowledged = [ref for ref in published if ref.step <= safe_step]
        return acknowledged[max(1, KEEP_LATEST - (len(published) - len(acknowledged))) :]

    def delete(self, ref: CheckpointRef) -> None:
        """Delete the files of an obsolete checkpoint; they stay when that fails."""
        failpoint("checkpoint.delete")
        with suppress(OSError, WindlassError):
            self._transfer.delete(self._locations.checkpoint(ref.attempt, ref.step))

    def load(self, resume: ResumePoint | None, *, max_step: int | None = None) -> TrainingState | None:
        """Return the newest valid checkpoint of this job up to step ``max_step``, or None.

        It may be newer than ``resume``, the newest one reported to the control plane, whose manifest must match.
        Checkpoints that are damaged, not published or have another fingerprint are skipped.

        Raises:
            UnavailableError: one cannot be read now. Without it, steps that were trained would be trained again.
        """
        for ref in self._published():
            if max_step is not None and ref.step > max_step:
                continue
            is_resume = resume is not None and ref == CheckpointRef(resume.step, resume.attempt)
            if (state := self._read(ref, resume.manifest.digest() if resume and is_resume else None)) is not None:
                return state
        return None

    def _published(self) -> list[CheckpointRef]:
        """Return the published checkpoints, the newest first."""
        refs = []
        for uri in self._transfer.published(self._locations.checkpoints):
            attempt, step = uri.split("/")[-2:]
            if attempt.isdigit() and step.isdigit():
                refs.append(CheckpointRef(int(step), int(attempt)))
        return sorted(refs, key=lambda ref: ref.order, reverse=True)

    def _read(self, ref: CheckpointRef, digest: str | None) -> TrainingState | None:
        uri = self._locations.checkpoint(ref.attempt, ref.step)
        try:
            folder = fetch_once(self._transfer, uri, self._inputs / f"checkpoint-{ref.attempt}-{ref.step}")
            verify(folder, digest=digest)
            content = _StateFile.model_validate_json((folder / "state.json").read_bytes())
            if content.format != _FORMAT or content.fingerprint != self._fingerprint:
                _log.warning("checkpoint %s belongs to another job or other settings", uri)
                return None
            best = folder / "best.safetensors"
            return TrainingState(
                progress=content.progress,
                weights=load_file(folder / "weights.safetensors"),
                optimizer=load_file(folder / "optimizer.safetensors"),
                best=load_file(best) if best.exists() else None,
            )
        except UnavailableError:
            raise
        except (OSError, WindlassError, ValidationError, SafetensorError, json.JSONDecodeError) as error:
            _log.warning("checkpoint %s cannot be loaded: %s", uri, error)
            return None


def _write(path: Path, tensors: Tensors) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # safetensors reports operating system errors as SafetensorError
        raise OSError(errno.EIO, f"cannot write {path.name}: {error}") from error
