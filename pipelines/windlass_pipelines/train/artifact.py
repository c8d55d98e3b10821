"""The result of a job as a folder: weights, configuration, tokenizer, evaluation, provenance, report, manifest."""

import json
import logging
from pathlib import Path
from typing import Any

from torch import nn

from windlass.domain.artifacts import Manifest
from windlass.runtime.artifacts import commit, seal, staging
from windlass.runtime.context import RunContext
from windlass_pipelines import report
from windlass_pipelines.report.facts import ReportFacts
from windlass_pipelines.train.facts import environment
from windlass_pipelines.train.outcome import TrainingError
from windlass_pipelines.train.tasks import Judgement, TaskAdapter

_ENDINGS = frozenset({".safetensors", ".json", ".jinja", ".txt", ".html", ".md"})
_log = logging.getLogger(__name__)


def evaluation_of(judgement: Judgement, facts: ReportFacts) -> dict[str, Any]:
    """Return the evaluation as it is stored and reported: metrics by name at the top, details beside them."""
    found: dict[str, Any] = dict(judgement.metrics)
    found["split"] = facts.evaluated_on.value
    found["rows"] = facts.data.rows[facts.evaluated_on]
    if judgement.confusion is not None:
        found["confusion_matrix"] = judgement.confusion.model_dump(mode="json")
        found["per_class"] = {label: score.model_dump(mode="json") for label, score in judgement.classes.items()}
    if facts.evaluation_before:
        found["before"] = facts.evaluation_before
    if judgement.samples:
        found["samples"] = [sample.model_dump(mode="json") for sample in judgement.samples]
    return found


def write_artifact(
    context: RunContext,
    target: Path,
    task: TaskAdapter,
    model: nn.Module,
    evaluation: dict[str, Any],
    facts: ReportFacts,
) -> Manifest:
    """Commit the artifact to ``target`` and return its manifest.

    Raises:
        TrainingError: ``artifact_unsafe``: the libraries wrote a file of a kind that the registry refuses.
        OSError: the disk is full, or the like; nothing of it is left.
    """
    with staging(target) as folder:
        task.save(model, folder)
        _strip_code(folder)
        _write_json(folder / "evaluation.json", evaluation)
        _write_json(folder / "windlass.json", _provenance(context, task))
        try:
            report.write(folder, facts)
        except Exception:  # noqa: BLE001 - a drawing must not cost the model that it draws
            _log.exception("the report could not be written")
        manifest = seal(folder)
        commit(folder, target)
    return manifest


def _strip_code(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in _ENDINGS:
            raise TrainingError("artifact_unsafe", f"the model was saved with a file of an unknown kind: {path.name}")
    for path in folder.glob("*.json"):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.pop("auto_map", None) is not None:
            _write_json(path, content)


def _provenance(context: RunContext, task: TaskAdapter) -> dict[str, Any]:
    spec = context.spec
    return {
        "format": 1,
        "task": spec.task.value,
        "labels": list(task.labels),
        "model": spec.model,
        "project": context.project,
        "job": context.job,
        "base_model": context.base_model,
        "dataset": spec.dataset,
        "dataset_version": context.dataset_version,
        "method": spec.method.model_dump(mode="json"),
        "training": spec.training.model_dump(mode="json"),
        "max_length": spec.training.max_length,
        "environment": environment(),
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
