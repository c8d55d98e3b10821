"""Writes a job's artifact folder: weights, configuration, tokenizer, evaluation, provenance, report, manifest."""

import json
import logging
from pathlib import Path
from typing import Any

from torch import nn

from windlass.domain.artifacts import MODEL_METADATA_FORMAT, MODEL_METADATA_NAME
from windlass.domain.errors import InvalidError
from windlass.domain.training_report import REPORT_NAME, TrainingReport
from windlass.runtime.context import RunContext
from windlass_pipelines import report
from windlass_pipelines.code_scan import check_content
from windlass_pipelines.train.report_data import environment
from windlass_pipelines.train.result import TrainingError
from windlass_pipelines.train.tasks import EvaluationResult, TaskAdapter

_ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".jinja", ".txt", ".html", ".md"})
_log = logging.getLogger(__name__)


def evaluation_summary(evaluation: EvaluationResult, report_data: TrainingReport) -> dict[str, Any]:
    """Return the evaluation as JSON for the artifact and the result: metrics by name at the top level, then details."""
    summary: dict[str, Any] = dict(evaluation.metrics)
    summary["split"] = report_data.evaluated_on.value
    summary["rows"] = report_data.data.rows[report_data.evaluated_on]
    summary["also_trained_on"] = report_data.data.also_trained_on
    if evaluation.unanswered:
        summary["rows_unanswered"] = evaluation.unanswered
    if report_data.data.skipped:
        summary["rows_skipped"] = {split.value: rows for split, rows in report_data.data.skipped.items()}
    if report_data.data.dropped:
        summary["rows_dropped"] = {split.value: rows for split, rows in report_data.data.dropped.items()}
    if report_data.data.truncated:
        summary["rows_truncated"] = report_data.data.truncated
    if evaluation.baselines:
        summary["baselines"] = evaluation.baselines
    if evaluation.confusion is not None:
        summary["confusion_matrix"] = evaluation.confusion.model_dump(mode="json")
        summary["per_class"] = {label: score.model_dump(mode="json") for label, score in evaluation.classes.items()}
    if report_data.evaluation_before:
        summary["before"] = report_data.evaluation_before
    if evaluation.samples:
        summary["samples"] = [sample.model_dump(mode="json") for sample in evaluation.samples]
    return summary


def write_artifact(
    context: RunContext,
    folder: Path,
    task: TaskAdapter,
    model: nn.Module,
    report_data: TrainingReport,
) -> bool:
    """Write the files of the artifact to ``folder``, which is empty; return whether the report could be written.

    Raises:
        TrainingError: ``artifact_unsafe``: the libraries wrote a file that the model server refuses.
        OSError: a write failed, for example on a full disk.
    """
    task.save(model, folder)
    _strip_code(folder)
    _write_json(folder / MODEL_METADATA_NAME, _provenance(context, task, report_data))
    try:
        report.write(folder, report_data)
        check_content(folder / REPORT_NAME)
    except Exception:  # noqa: BLE001 - a failed report must not lose the trained model
        _log.exception("the report could not be written")
        for name in report.FILES:
            (folder / name).unlink(missing_ok=True)
        return False
    return True


def _strip_code(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in _ALLOWED_SUFFIXES:
            raise TrainingError("artifact_unsafe", f"the model was saved with an unsupported file type: {path.name}")
    for path in folder.glob("*.json"):
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.pop("auto_map", None) is not None:
            _write_json(path, content)
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                check_content(path)
        except InvalidError as error:
            raise TrainingError("artifact_unsafe", f"the model was not saved: {error.message}") from error


def _provenance(context: RunContext, task: TaskAdapter, report_data: TrainingReport) -> dict[str, Any]:
    spec, training = context.spec, report_data.training.model_dump(mode="json")
    return {
        "format": MODEL_METADATA_FORMAT,
        "task": spec.task.value,
        "labels": list(task.labels),
        "model": spec.model,
        "project": context.identity.project,
        "job": context.identity.job,
        "base_model": context.inputs.base_model,
        "licence": context.inputs.base_model_licence,
        "dataset": spec.dataset,
        "dataset_version": context.inputs.dataset_version,
        "method": spec.method.model_dump(mode="json"),
        "training": training,
        "max_length": spec.training.max_length,
        "environment": environment(),
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
