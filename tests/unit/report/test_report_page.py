"""The training report as a reader, a screen reader and an attacker see it."""

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.report.report_samples import reviews, support, validation

from windlass.domain.datasets import Finding, Split, ValidationReport
from windlass.domain.specs import Gate
from windlass.domain.training_report import ChatSample, ClassScore, ConfusionMatrix, GateResult, Mistake
from windlass_pipelines.report import TrainingReport, training, write
from windlass_pipelines.report.dataset import render_dataset
from windlass_pipelines.report.page import STYLE

VOID = {"meta", "br", "hr", "wbr"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;b&gt;\x00\x1b[31m\u202e\ud800"
SHOWN = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;b&gt;\ufffd\ufffd[31m\ufffd\ufffd"


class Page(HTMLParser):
    """A parsed page: elements with attributes, texts, and whether every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def hostile_report() -> TrainingReport:
    report = reviews()
    gate = GateResult(
        gate=Gate.model_construct(metric="<script>", operator=">=", threshold=0.5), value=None, passed=False
    )
    labels = (HOSTILE, "b")
    return report.model_copy(
        update={
            "project": HOSTILE,
            "job": HOSTILE,
            "model": HOSTILE,
            "device": HOSTILE,
            "base_model": report.base_model.model_copy(update={"name": HOSTILE, "licence": HOSTILE}),
            "data": report.data.model_copy(
                update={"name": HOSTILE, "version_id": HOSTILE, "labels": {Split.TRAIN: {HOSTILE: 3, "b": 1}}}
            ),
            "environment": {HOSTILE: HOSTILE},
            "curves": {**report.curves, HOSTILE: ((1, 2.0), (2, 3.0))},
            "evaluation": {**report.evaluation, HOSTILE: 0.5},
            "classes": {label: ClassScore(precision=0.5, recall=0.5, f1=0.5, support=2) for label in labels},
            "confusion": ConfusionMatrix(labels=labels, counts=((1, 1), (1, 1))),
            "mistakes": (Mistake(text=HOSTILE, expected=HOSTILE, predicted="b"),),
            "samples": (ChatSample(prompt=HOSTILE, expected=HOSTILE, before=HOSTILE, after=HOSTILE, exact=False),),
            "gates": (gate,),
        }
    )


def hostile_dataset() -> str:
    report = validation()
    finding = Finding(
        code="x", severity="error", message=HOSTILE, action=HOSTILE, file=HOSTILE, line=1, pointer=HOSTILE
    )
    hostile = report.model_copy(
        update={
            "findings": (finding,),
            "personal_data": {HOSTILE: 3},
            "tokenizer": HOSTILE,
            "steps": ({"op": HOSTILE, HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}},),
            "splits": {
                split: stats.model_copy(update={"labels": {HOSTILE: 5}}) for split, stats in report.splits.items()
            },
        }
    )
    return render_dataset(hostile, HOSTILE)


@pytest.mark.parametrize("source", [training.render(hostile_report()), hostile_dataset()], ids=["training", "dataset"])
def test_markup_in_user_text_is_escaped(source: str) -> None:
    source.encode("utf-8")
    page = Page(source)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "a",
        "form",
        "base",
        "foreignobject",
        "use",
    }
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert SHOWN in page.text
    assert "\x1b" not in source
    assert "\u202e" not in source


@pytest.mark.parametrize(
    "source",
    [training.render(reviews()), training.render(support()), render_dataset(validation(), "reviews, version 2")],
    ids=["classification", "chat", "dataset"],
)
def test_the_page_loads_no_resources_and_its_csp_allows_only_its_style_sheet(source: str) -> None:
    page = Page(source)
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    style = source.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in page.elements if {"src", "href", "xlink:href", "style", "srcset"} & a.keys()]
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize(
    "source",
    [training.render(reviews()), training.render(support()), render_dataset(validation(), "reviews, version 2")],
    ids=["classification", "chat", "dataset"],
)
def test_the_page_is_accessible_to_screen_readers(source: str) -> None:
    page = Page(source)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) > 0
    assert len(page.all("h1")) == 1
    tables, captions = page.all("table"), page.all("caption")
    assert len(tables) == len(captions) > 0
    assert all(header.get("scope") in {"col", "row", "colgroup"} for header in page.all("th"))
    for drawing in page.all("svg"):
        outer = "viewbox" not in drawing
        assert not outer or drawing.get("aria-hidden") == "true" or (drawing["role"] == "img" and drawing["aria-label"])


def test_write_is_deterministic(tmp_path: Path) -> None:
    write(tmp_path / "a", reviews())
    write(tmp_path / "b", reviews())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["README.md", "report.html", "report.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_the_headline_names_the_failed_gate_and_its_metric() -> None:
    page = Page(training.render(reviews(passed=False)))
    assert "review-sentiment fails its gate: weighted F1 of 0.721, required \u2265\u00a00.78" in page.text
    assert "Failed: Weighted F1 \u2265\u00a00.78, measured 0.721" in page.text


def test_the_headline_counts_exact_answers() -> None:
    assert "support-bot: 9 of 10 answers match exactly, up from 0 of 10" in Page(training.render(support())).text
    unanswered = support().model_copy(update={"evaluation": {"exact_answer_rate": 0.75}, "unanswered": 2})
    assert "support-bot: 6 of 8 answers match exactly" in Page(training.render(unanswered)).text


def test_a_gate_without_a_measurement_is_shown_as_failed() -> None:
    result = GateResult(gate=Gate(metric="macro_f1", operator=">=", threshold=0.9), value=None, passed=False)
    report = reviews().model_copy(update={"gates": (result,), "evaluation": {}, "evaluation_before": {}})
    page = Page(training.render(report))
    assert "was trained but not evaluated" in page.text
    assert "Failed: Macro F1 \u2265\u00a00.9, not measured" in page.text


def test_the_confusion_matrix_has_counts_and_row_shares() -> None:
    page = Page(training.render(reviews()))
    assert (
        "Most frequent confusion: \u201cnegative\u201d predicted as \u201cpositive\u201d, 35 of 285 rows" in page.text
    )
    assert {"hit9 strong", "miss1", "miss2"} <= {cell.get("class") for cell in page.all("td")}
    assert "23884\u202f%" in page.text


def test_many_labels_give_a_list_of_confusions_instead_of_a_matrix() -> None:
    labels = tuple(f"label-{i}" for i in range(60))
    counts = tuple(tuple(7 if i == j else int(j == (i + 1) % 60) * (i + 1) for j in range(60)) for i in range(60))
    scores = {label: ClassScore(precision=0.5, recall=0.5, f1=0.5, support=8) for label in labels}
    report = reviews().model_copy(
        update={"classes": scores, "confusion": ConfusionMatrix(labels=labels, counts=counts)}
    )
    page = Page(training.render(report))
    assert "Most frequent confusion: \u201clabel-59\u201d predicted as \u201clabel-0\u201d, 60 of 67 rows" in page.text
    assert "heat" not in {table.get("class") for table in page.all("table")}
    assert "The 30 weakest of 60 are shown." in page.text


def test_long_lists_and_texts_are_truncated() -> None:
    many = tuple(Mistake(text=f"row {i} " + "x" * 5000, expected="a", predicted="b") for i in range(500))
    source = training.render(reviews().model_copy(update={"mistakes": many}))
    assert "row 19 " in source
    assert "row 20 " not in source
    assert len(source) < 200_000


def test_many_points_make_a_small_page() -> None:
    long = tuple((i, math.sin(i / 9000) + 2) for i in range(200_000))
    assert len(training.render(reviews().model_copy(update={"curves": {"train_loss": long}}))) < 200_000


floats = st.floats(allow_nan=True, allow_infinity=True)
names = st.text(min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    curves=st.dictionaries(
        st.sampled_from(["train_loss", "eval_loss", "eval_accuracy", "learning_rate", "x_y"]),
        st.lists(st.tuples(st.integers(0, 10**9), floats), max_size=90).map(
            lambda p: tuple(sorted(p, key=lambda q: q[0]))
        ),
    ),
    evaluation=st.dictionaries(st.sampled_from(["accuracy", "weighted_f1", "perplexity", "z"]), floats),
    before=st.dictionaries(st.sampled_from(["accuracy", "weighted_f1", "perplexity", "z"]), floats),
    labels=st.dictionaries(names, st.integers(0, 10**9), max_size=5),
)
def test_the_page_is_well_formed_for_any_measurements(
    curves: dict[str, tuple[tuple[int, float], ...]],
    evaluation: dict[str, float],
    before: dict[str, float],
    labels: dict[str, int],
) -> None:
    report = reviews()
    data = report.data.model_copy(update={"labels": {Split.TRAIN: labels, Split.VALIDATION: {}}})
    changed = {"curves": curves, "evaluation": evaluation, "evaluation_before": before, "data": data}
    page = Page(training.render(report.model_copy(update=changed)))
    for _, attributes in page.elements:
        drawn = " ".join(attributes.get(name) or "" for name in ("x", "y", "cx", "cy", "x1", "y1", "d", "width"))
        assert not re.search("nan|inf", drawn)


def test_a_validation_report_states_how_the_files_were_read() -> None:
    assert "csv, utf-8, delimiter semicolon" in render_dataset(validation(), "reviews, version 2")


def test_an_empty_validation_report_says_that_no_row_could_be_read() -> None:
    error = Finding(code="empty", severity="error", message="the file is empty")
    page = Page(render_dataset(ValidationReport(findings=(error,), splits={}), "reviews, version 1"))
    assert "reviews, version 1 cannot be used: 1 error" in page.text
    assert "No rows could be read." in page.text


def test_findings_are_sorted_by_severity_with_location_and_action() -> None:
    text = Page(render_dataset(validation(), "reviews, version 2")).text
    assert text.index("Error14 rows") < text.index("Warningthe label is missing") < text.index("Note4 rows")
    assert "reviews.csv, line 218, /label" in text
    assert "clean with drop-missing or fill-missing" in text
    assert "15 possible occurrences of personal data in 3,708 rows" in text


def _variables(block: str) -> dict[str, tuple[float, ...]]:
    variables = re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
    return {name: tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)) for name, code in variables}


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2.2 contrast ratio, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    linear = [[v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color] for color in (one, other)]
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (light[1] + 0.05) / (light[0] + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_has_sufficient_contrast(scheme: int) -> None:
    colors = _variables(re.findall(r":root \{([^}]*)\}", STYLE)[scheme])
    pairs = [(colors[name], colors["paper"]) for name in ("ink", "soft", "main", "third", "bad")]
    pairs += [(colors["ink"], colors["good-soft"]), (colors["ink"], colors["bad-soft"])]
    shades = re.findall(r"\.heat td\.(?:hit|miss)(\d+) \{ background: color-mix\(in srgb, var\(--(\w+)\) (\d+)%", STYLE)
    assert len(shades) == 20
    for level, name, percent in shades:
        share = int(percent) / 100
        ground = tuple(share * a + (1 - share) * b for a, b in zip(colors[name], colors["raised"], strict=True))
        pairs.append((colors["paper" if int(level) > 5 else "ink"], ground))
    assert min(_contrast(text, ground) for text, ground in pairs) >= 4.5
