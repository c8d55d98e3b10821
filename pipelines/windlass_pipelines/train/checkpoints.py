"""Resumable training state in ``<checkpoint prefix>/<attempt>/<step>/``, without pickle.

``weights.safetensors`` holds the trained weights, ``optimizer.safetensors`` the moments (``<field>/<weight>``),
``best.safetensors`` the weights of the best evaluation when early stopping is on, ``state.json`` counters and curves.
Data order, learning rate and random numbers are functions of seed and step, so they need no state. The manifest is
written after the files, ``COMMITTED`` with its digest after the manifest, and the folder then gets its name.
"""

import errno
import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from windlass.domain.artifacts import Manifest
from windlass.domain.errors import WindlassError
from windlass.domain.reports import CheckpointItem, ResumePoint
from windlass.runtime.artifacts import commit, read_manifest, seal, staging, verify, write_synced
from windlass_pipelines.train.tasks import Judgement

MARKER = "COMMITTED"
KEPT = 2
_FORMAT = 1
_log = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
Curves = dict[str, list[tuple[int, float]]]


class Progress(BaseModel):
    """The counters of training at a step."""

    model_config = ConfigDict(ser_json_inf_nan="strings")
    step: int = 0
    trained_seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    waited: int = 0
    attempts: int = 1
    curves: Curves = {}
    before: Judgement | None = None


class _State(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    format: int = _FORMAT
    identity: str
    progress: Progress


@dataclass(frozen=True)
class Snapshot:
    """Everything needed to go on from a step."""

    progress: Progress
    weights: Tensors
    optimizer: Tensors
    best: Tensors | None


class Checkpoints:
    """The checkpoints of one job, written by one attempt. ``identity`` names what they are of: job, data, settings."""

    def __init__(self, store_root: Path, prefix: str, attempt: int, identity: str) -> None:
        self._root, self._prefix, self._attempt, self._identity = store_root, prefix, attempt, identity

    def save(self, snapshot: Snapshot, metrics: dict[str, float]) -> CheckpointItem:
        """Commit a checkpoint; returns what to report.

        Raises:
            OSError: the disk is full, or the like; nothing of it is left.
        """
        step = snapshot.progress.step
        prefix = f"{self._prefix}/{self._attempt}/{step}"
        target = self._root / prefix
        state = _State(identity=self._identity, progress=snapshot.progress)
        with staging(target) as folder:
            _write(folder / "weights.safetensors", snapshot.weights)
            _write(folder / "optimizer.safetensors", snapshot.optimizer)
            if snapshot.best is not None:
                _write(folder / "best.safetensors", snapshot.best)
            (folder / "state.json").write_text(state.model_dump_json(), encoding="utf-8")
            manifest = seal(folder)
            write_synced(folder / MARKER, manifest.digest().encode())
            commit(folder, target)
        return CheckpointItem(step=step, prefix=prefix, manifest=manifest, metrics=metrics, time=datetime.now(UTC))

    def prune(self, *, safe_step: int) -> None:
        """Remove all but the newest two, and none newer than ``safe_step``, the newest that the control plane knows."""
        committed = sorted(self._committed(), key=lambda found: (found[0], found[1]), reverse=True)
        known = [folder for step, _, folder in committed if step <= safe_step]
        for folder in known[max(1, KEPT - (len(committed) - len(known))) :]:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self, resume: ResumePoint | None, *, at_most: int | None = None) -> Snapshot | None:
        """Return the newest whole checkpoint of this job up to step ``at_most``; None when there is none.

        It may be newer than ``resume``, the newest that the control plane has heard of, which must be what was heard.
        One that is torn, not committed or of other settings is passed over.
        """
        told = None if resume is None else self._root / resume.prefix
        for step, _, folder in sorted(self._committed(), reverse=True):
            if at_most is not None and step > at_most:
                continue
            expected = resume.manifest if resume is not None and folder == told else None
            if (found := self._read(folder, expected)) is not None:
                return found
        return None

    def _committed(self) -> Iterator[tuple[int, int, Path]]:
        """Yield (step, attempt, folder)."""
        for marker in (self._root / self._prefix).glob(f"*/*/{MARKER}"):
            attempt, step = marker.parts[-3:-1]
            if attempt.isdigit() and step.isdigit():
                yield int(step), int(attempt), marker.parent

    def _read(self, folder: Path, manifest: Manifest | None) -> Snapshot | None:
        try:
            found = read_manifest(folder)
            committed = (folder / MARKER).read_text(encoding="ascii") == found.digest()
            if not committed or (manifest is not None and manifest != found):
                _log.warning("checkpoint %s is not the one that was committed", folder)
                return None
            verify(folder, found)
            state = _State.model_validate_json((folder / "state.json").read_bytes())
            if state.format != _FORMAT or state.identity != self._identity:
                _log.warning("checkpoint %s is of other settings", folder)
                return None
            best = folder / "best.safetensors"
            return Snapshot(
                progress=state.progress,
                weights=load_file(folder / "weights.safetensors"),
                optimizer=load_file(folder / "optimizer.safetensors"),
                best=load_file(best) if best.exists() else None,
            )
        except (OSError, WindlassError, ValidationError, SafetensorError, json.JSONDecodeError) as error:
            _log.warning("checkpoint %s cannot be used: %s", folder, error)
            return None


def _write(path: Path, tensors: Tensors) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # the library wraps the operating system's error in its text
        raise OSError(errno.EIO, f"cannot write {path.name}: {error}") from error
