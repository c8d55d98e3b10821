"""The model card: Markdown with the YAML front matter of https://huggingface.co/docs/hub/model-cards."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from windlass.domain.specs import Task
from windlass_pipelines.report import story
from windlass_pipelines.report.facts import ReportFacts
from windlass_pipelines.report.figures import count, duration, metric_title, number, quantity, rows
from windlass_pipelines.report.markup import clean, cut

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
# The identifiers that the convention knows and that base models commonly carry, in its spelling (lower-case SPDX).
_LICENCES = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "openrail", "bigscience-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "gemma", "gpl-3.0", "agpl-3.0",
    "lgpl-3.0", "mpl-2.0", "unlicense", "isc",
})  # fmt: skip
_LABELS = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")


def render(facts: ReportFacts) -> str:
    """Return the card. Names and labels of tenants are escaped for Markdown and for the HTML it may become."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        f"---\n{front}---",
        f"# {plain(facts.model)}",
        plain(story.made_of(facts)),
        *_section("Intended use", _use(facts)),
        *_section("Data", _data(facts)),
        *_section("Training", _training(facts)),
        *_section("Evaluation", _evaluation(facts)),
        *_section("Limitations", _limitations(facts)),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Return ``text`` as one line of Markdown that shows it and means nothing else."""
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


def _front_matter(facts: ReportFacts) -> dict[str, Any]:
    licence = facts.base_model.licence.lower()
    known = licence in _LICENCES
    measured = {
        name: value for name, value in facts.evaluation.items() if name in _METRIC_TYPES and math.isfinite(value)
    }
    task = _PIPELINE[facts.task]
    result = {
        "task": {"type": task},
        "dataset": {
            "name": f"{clean(facts.data.name)}, version {facts.data.version}",
            "type": clean(facts.data.name),
            "split": str(facts.evaluated_on),
            "revision": facts.data.version_id,
        },
        "metrics": [
            {"type": _METRIC_TYPES[name], "name": metric_title(name), "value": round(value, 6)}
            for name, value in measured.items()
        ],
    }
    return {
        "license": licence if known else "other" if licence else "unknown",
        **({"license_name": clean(facts.base_model.licence)} if licence and not known else {}),
        "base_model": clean(facts.base_model.name),
        "base_model_relation": "finetune",
        "pipeline_tag": task,
        "library_name": "transformers",
        "tags": ["windlass", task, facts.method.type],
        "metrics": sorted({_METRIC_TYPES[name] for name in measured}),
        "model-index": [{"name": clean(facts.model), "results": [result] if measured else []}],
    }


def _use(facts: ReportFacts) -> list[str]:
    if facts.task is Task.CHAT:
        use = "Answers questions in the manner and about the matters of the conversations it was tuned on."
        return [use, "Give it messages through its chat template; `windlass chat` and the endpoint do."]
    labels = sorted({label for counts in facts.data.labels.values() for label in counts} | set(facts.classes))
    shown = ", ".join(plain(cut(label, 80)) for label in labels[:_LABELS])
    rest = f" and {count(len(labels) - _LABELS)} more" if len(labels) > _LABELS else ""
    return [f"Gives a text of the kind it was tuned on one of these labels: {shown}{rest}."]


def _data(facts: ReportFacts) -> list[str]:
    data = facts.data
    lines = [[str(split), count(found)] for split, found in data.rows.items()]
    origin = f"Dataset {plain(data.name)}, version {data.version} (`{data.version_id}`)."
    cut = f"{rows(data.truncated)} were longer than {count(facts.training.max_length)} tokens and were cut."
    return [origin, _table(["Split", "Rows"], lines), *([cut] if data.truncated else [])]


def _training(facts: ReportFacts) -> list[str]:
    training = facts.training
    recipe = (
        f"AdamW with a learning rate of {training.learning_rate:g}, {training.schedule} decay after a warm-up of "
        f"{100 * training.warmup_ratio:g} % of the steps, {count(training.batch_size)} rows per step and worker, "
        f"seed {training.seed}."
    )
    base = facts.base_model
    lines = [
        ["Base model", plain(base.name)],
        ["Method", story.method_phrase(facts.method)],
        ["Weights trained", f"{quantity(base.trainable)} of {quantity(base.parameters)}"],
        ["Steps", count(facts.steps)],
        ["Training time", duration(facts.training_seconds)],
        ["Workers", f"{facts.workers} \u00d7 {plain(facts.device)}"],
        *([plain(name), plain(version)] for name, version in facts.environment.items()),
    ]
    return [recipe, _table(["What", "Value"], lines)]


def _evaluation(facts: ReportFacts) -> list[str]:
    if not facts.evaluation:
        return ["The model was not evaluated."]
    lines = [
        [plain(metric_title(name)), number(facts.evaluation_before.get(name)), number(value)]
        for name, value in facts.evaluation.items()
    ]
    held_out = rows(facts.data.rows.get(facts.evaluated_on, 0))
    parts = [f"On the {facts.evaluated_on} split, {held_out}.", _table(["Metric", "Before", "After"], lines)]
    if facts.gates:
        verdicts = (
            f"- {plain(story.condition(verdict))}: {'passed' if verdict.passed else 'missed'}, "
            + ("not measured" if verdict.value is None else f"measured {number(verdict.value)}")
            for verdict in facts.gates
        )
        parts.append("\n".join(verdicts))
    return [*parts, "Curves, the confusion matrix and the worst mistakes are in `report.html`."]


def _limitations(facts: ReportFacts) -> list[str]:
    points = [
        "The numbers above hold for data like the held-out split; other sources, languages or times may differ.",
        "The base model's own limits and biases remain, as does its licence.",
    ]
    weak = [(score.f1, label) for label, score in facts.classes.items()]
    if len(weak) > 1:
        f1, label = min(weak)
        points.append(f"The weakest label is {plain(cut(label, 80))}, with an F1 of {number(f1)}.")
    if facts.task is Task.CHAT:
        points.append("It can state what is not true; check answers that matter.")
    if facts.data.truncated:
        points.append(f"Text beyond {count(facts.training.max_length)} tokens is not read.")
    return ["\n".join(f"- {point}" for point in points)]
