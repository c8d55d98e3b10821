"""Model card: Markdown with the YAML front matter of https://huggingface.co/docs/hub/model-cards."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from windlass.domain.specs import Task
from windlass.domain.training_report import TrainingReport
from windlass_pipelines.report import headlines
from windlass_pipelines.report.formatting import compact_count, count, duration, metric_title, number
from windlass_pipelines.report.markup import clean, truncate

_PIPELINE = {Task.TEXT_CLASSIFICATION: "text-classification", Task.CHAT: "text-generation"}
_METRIC_TYPES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "weighted_f1": "f1",
    "macro_f1": "f1",
    "perplexity": "perplexity",
    "exact_answer_rate": "exact_match",
}
# License identifiers of the Hugging Face Hub that base models commonly use (lower-case SPDX).
_LICENCES = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "openrail", "bigscience-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "gemma", "gpl-3.0", "agpl-3.0",
    "lgpl-3.0", "mpl-2.0", "unlicense", "isc",
})  # fmt: skip
_LABELS = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")


def render(report: TrainingReport) -> str:
    """Return the model card. User-provided text is escaped for Markdown and HTML."""
    front = yaml.safe_dump(_front_matter(report), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        f"---\n{front}---",
        f"# {plain(report.model)}",
        plain(headlines.provenance_phrase(report)),
        *_section("Intended use", _use(report)),
        *_section("Data", _data(report)),
        *_section("Training", _training(report)),
        *_section("Evaluation", _evaluation(report)),
        *_section("Limitations", _limitations(report)),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Escape ``text`` to one line of Markdown without markup."""
    return (
        _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def _section(title: str, paragraphs: Iterable[str]) -> list[str]:
    return [f"## {title}", *paragraphs]


def _table(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruled = [headers, ["---"] * len(headers), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _front_matter(report: TrainingReport) -> dict[str, Any]:
    licence = report.base_model.licence.lower()
    known = licence in _LICENCES
    measured = {
        name: value for name, value in report.evaluation.items() if name in _METRIC_TYPES and math.isfinite(value)
    }
    task = _PIPELINE[report.task]
    result = {
        "task": {"type": task},
        "dataset": {
            "name": f"{clean(report.data.name)}, version {report.data.version}",
            "type": clean(report.data.name),
            "split": str(report.evaluated_on),
            "revision": report.data.version_id,
        },
        "metrics": [
            {"type": _METRIC_TYPES[name], "name": metric_title(name), "value": round(value, 6)}
            for name, value in measured.items()
        ],
    }
    return {
        "license": licence if known else "other" if licence else "unknown",
        **({"license_name": clean(report.base_model.licence)} if licence and not known else {}),
        "base_model": clean(report.base_model.name),
        "base_model_relation": "finetune",
        "pipeline_tag": task,
        "library_name": "transformers",
        "tags": ["windlass", task, report.method.type],
        "metrics": sorted({_METRIC_TYPES[name] for name in measured}),
        "model-index": [{"name": clean(report.model), "results": [result] if measured else []}],
    }


def _use(report: TrainingReport) -> list[str]:
    if report.task is Task.CHAT:
        use = "Chat about the topics and in the style of the conversations it was fine-tuned on."
        return [use, "Format messages with its chat template, as `windlass chat` and the endpoint do."]
    labels = sorted({label for counts in report.data.labels.values() for label in counts} | set(report.classes))
    shown = ", ".join(plain(truncate(label, 80)) for label in labels[:_LABELS])
    rest = f" and {count(len(labels) - _LABELS)} more" if len(labels) > _LABELS else ""
    return [f"Classifies text like that of its training data into these labels: {shown}{rest}."]


def _data(report: TrainingReport) -> list[str]:
    data = report.data
    lines = [[str(split), count(rows)] for split, rows in data.rows.items()]
    origin = f"Dataset {plain(data.name)}, version {data.version} (`{data.version_id}`)."
    notes = [
        headlines.unused_rows_note(report),
        headlines.preparation_note(report),
    ]
    return [origin, _table(["Split", "Rows"], lines), *filter(None, notes)]


def _training(report: TrainingReport) -> list[str]:
    training = report.training
    recipe = (
        f"AdamW with a learning rate of {training.learning_rate:g}, {training.schedule} decay after warm-up over "
        f"{100 * training.warmup_ratio:g} % of the steps, batch size {count(training.batch_size)} per worker, "
        f"seed {training.seed}."
    )
    base = report.base_model
    lines = [
        ["Base model", plain(base.name)],
        *([["Pooling of the classification head", plain(base.pooling)]] if base.pooling else []),
        ["Method", headlines.method_phrase(report.method)],
        ["Trainable parameters", f"{compact_count(base.trainable)} of {compact_count(base.parameters)}"],
        ["Steps", count(report.steps)],
        *([["Weights of step", count(report.kept.step)]] if report.kept else []),
        ["Training time", duration(report.training_seconds)],
        ["Processes", f"{report.world_size} \u00d7 {plain(report.device)}"],
        *([plain(name), plain(version)] for name, version in report.environment.items()),
    ]
    return [recipe, _table(["Property", "Value"], lines)]


def _evaluation(report: TrainingReport) -> list[str]:
    if not report.evaluation:
        return ["The model was not evaluated."]
    lines = [
        [plain(metric_title(name)), number(report.evaluation_before.get(name)), number(value)]
        for name, value in report.evaluation.items()
    ]
    parts = [f"On {headlines.evaluated_split(report)}.", _table(["Metric", "Before", "After"], lines)]
    if report.baselines:
        names = list(next(iter(report.baselines.values())))
        rows = [
            [headlines.BASELINE_TITLES.get(model, plain(model)), *(number(scores[name]) for name in names)]
            for model, scores in report.baselines.items()
        ]
        parts.append(_table(["Simple model, same rows", *map(metric_title, names)], rows))
    if report.gates:
        verdicts = (
            f"- {plain(headlines.gate_condition(verdict))}: {'passed' if verdict.passed else 'failed'}, "
            + ("not measured" if verdict.value is None else f"measured {number(verdict.value)}")
            for verdict in report.gates
        )
        parts.append("\n".join(verdicts))
    return [*parts, "`report.html` has the training curves, the confusion matrix and the worst errors."]


def _limitations(report: TrainingReport) -> list[str]:
    points = [
        "The metrics apply to data like the evaluated rows; results on other sources, languages or periods may differ.",
        "The limitations, biases and licence of the base model still apply.",
    ]
    points += (plain(warning.message) for warning in report.warnings)
    weak = [(score.f1, label) for label, score in report.classes.items()]
    if len(weak) > 1:
        f1, label = min(weak)
        points.append(f"The weakest label is {plain(truncate(label, 80))}, with an F1 of {number(f1)}.")
    if report.task is Task.CHAT:
        points.append("Answers can be factually wrong; verify important ones.")
    if report.data.truncated:
        points.append(f"Text beyond {count(report.training.max_length)} tokens is truncated.")
    return ["\n".join(f"- {point}" for point in points)]
