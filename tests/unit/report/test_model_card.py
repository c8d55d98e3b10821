"""The model card: front matter for programs, Markdown for people, nothing of a tenant's text taken as markup."""

import math
import re
from typing import Any

import yaml
from tests.unit.report.report_samples import reviews, support

from windlass.domain.datasets import Split
from windlass_pipelines.report import card
from windlass_pipelines.report.facts import ClassScore

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `code` **b**\n# title\n---\nlicense: mit"


def front_matter(text: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found
    loaded = yaml.safe_load(found[1])
    assert isinstance(loaded, dict)
    return loaded


def test_the_front_matter_names_licence_base_model_task_and_results() -> None:
    front = front_matter(card.render(reviews()))
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "minilm-l6"
    assert front["pipeline_tag"] == "text-classification"
    assert front["metrics"] == ["accuracy", "f1", "precision", "recall"]
    results = front["model-index"][0]["results"][0]
    assert results["dataset"]["revision"] == reviews().data.version_id
    assert {"type": "f1", "name": "Weighted F1", "value": 0.8213} in results["metrics"]


def test_a_licence_outside_the_convention_is_other_and_keeps_its_name() -> None:
    facts = reviews()
    for licence, expected in (("Acme-1.0", ("other", "Acme-1.0")), ("", ("unknown", None))):
        base = facts.base_model.model_copy(update={"licence": licence})
        front = front_matter(card.render(facts.model_copy(update={"base_model": base})))
        assert (front["license"], front.get("license_name")) == expected


def test_the_card_has_the_sections_that_a_reader_looks_for() -> None:
    for facts in (reviews(), support()):
        titles = re.findall(r"^## (.*)$", card.render(facts), re.MULTILINE)
        assert titles == ["Intended use", "Data", "Training", "Evaluation", "Limitations"]


def test_the_card_says_what_is_weak() -> None:
    text = card.render(reviews())
    assert "The weakest label is neutral, with an F1 of 0.404." in text
    assert "Weighted F1 \u2265 0.78: passed, measured 0.821" in text


def test_tenant_text_stays_text() -> None:
    facts = reviews()
    scores = {HOSTILE: ClassScore(precision=0.1, recall=0.1, f1=0.1, support=1), **facts.classes}
    base = facts.base_model.model_copy(update={"name": HOSTILE, "licence": HOSTILE})
    data = facts.data.model_copy(update={"name": HOSTILE, "labels": {Split.TRAIN: {HOSTILE: 1}}})
    update = {"model": HOSTILE, "classes": scores, "base_model": base, "data": data, "environment": {HOSTILE: HOSTILE}}
    text = card.render(facts.model_copy(update=update))
    assert front_matter(text)["base_model"] == HOSTILE
    assert front_matter(text)["license"] == "other"
    body = text.split("\n---\n", 1)[1]
    assert "<" not in body
    assert not re.search(r"(?<!\\)\[x|(?<!\\)\*\*", body)
    assert re.findall(r"^#.*$", body, re.MULTILINE)[0].startswith("# &lt;script&gt;")
    assert len(re.findall(r"^# ", body, re.MULTILINE)) == 1


def test_a_measurement_that_is_no_number_is_left_out_of_the_results() -> None:
    facts = reviews().model_copy(update={"evaluation": {"accuracy": math.nan, "weighted_f1": 0.5}})
    assert front_matter(card.render(facts))["metrics"] == ["f1"]


def test_a_model_that_was_not_evaluated_says_so() -> None:
    text = card.render(reviews().model_copy(update={"evaluation": {}}))
    assert "The model was not evaluated." in text
    assert front_matter(text)["model-index"][0]["results"] == []
