"""The model card: YAML front matter, Markdown sections, escaped user text."""

import math
import re
from typing import Any

import yaml
from tests.unit.report.report_samples import reviews, support

from windlass.domain.datasets import Split
from windlass.domain.training_report import ClassScore
from windlass_pipelines.report import model_card

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `code` **b**\n# title\n---\nlicense: mit"


def front_matter(text: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match
    loaded = yaml.safe_load(match[1])
    assert isinstance(loaded, dict)
    return loaded


def test_the_front_matter_names_licence_base_model_task_and_results() -> None:
    front = front_matter(model_card.render(reviews()))
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "minilm-l6"
    assert front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == ["accuracy", "f1", "precision", "recall"]
    results = front["model-index"][0]["results"][0]
    assert results["dataset"]["revision"] == reviews().data.version_id
    assert {"type": "f1", "name": "Weighted F1", "value": 0.8213} in results["metrics"]


def test_an_unknown_licence_is_other_and_keeps_its_name() -> None:
    report = reviews()
    for licence, expected in (("Acme-1.0", ("other", "Acme-1.0")), ("", ("unknown", None))):
        base = report.base_model.model_copy(update={"licence": licence})
        front = front_matter(model_card.render(report.model_copy(update={"base_model": base})))
        assert (front["license"], front.get("license_name")) == expected


def test_the_card_has_the_standard_sections() -> None:
    for report in (reviews(), support()):
        titles = re.findall(r"^## (.*)$", model_card.render(report), re.MULTILINE)
        assert titles == ["Intended use", "Data", "Training", "Evaluation", "Limitations"]


def test_the_card_names_the_weakest_label_and_the_gate_results() -> None:
    text = model_card.render(reviews())
    assert "The weakest label is neutral, with an F1 of 0.404." in text
    assert "Weighted F1 \u2265 0.78: passed, measured 0.821" in text


def test_user_text_is_escaped() -> None:
    report = reviews()
    scores = {HOSTILE: ClassScore(precision=0.1, recall=0.1, f1=0.1, support=1), **report.classes}
    base = report.base_model.model_copy(update={"name": HOSTILE, "licence": HOSTILE})
    data = report.data.model_copy(update={"name": HOSTILE, "labels": {Split.TRAIN: {HOSTILE: 1}}})
    update = {"model": HOSTILE, "classes": scores, "base_model": base, "data": data, "environment": {HOSTILE: HOSTILE}}
    text = model_card.render(report.model_copy(update=update))
    assert front_matter(text)["base_model"] == HOSTILE
    assert front_matter(text)["license"] == "other"
    body = text.split("\n---\n", 1)[1]
    assert "<" not in body
    assert not re.search(r"(?<!\\)\[x|(?<!\\)\*\*", body)
    assert re.findall(r"^#.*$", body, re.MULTILINE)[0].startswith("# &lt;script&gt;")
    assert len(re.findall(r"^# ", body, re.MULTILINE)) == 1


def test_a_nan_metric_is_omitted_from_the_results() -> None:
    report = reviews().model_copy(update={"evaluation": {"accuracy": math.nan, "weighted_f1": 0.5}})
    assert front_matter(model_card.render(report))["metrics"] == ["f1"]


def test_a_model_without_evaluation_is_described_as_such() -> None:
    text = model_card.render(reviews().model_copy(update={"evaluation": {}}))
    assert "The model was not evaluated." in text
    assert front_matter(text)["model-index"][0]["results"] == []
