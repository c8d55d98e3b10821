"""The confusion matrix of a training report."""

from windlass.domain.training_report import ConfusionMatrix
from windlass_pipelines.report import headlines
from windlass_pipelines.report.charts import bar
from windlass_pipelines.report.formatting import count, percent
from windlass_pipelines.report.markup import Html, el
from windlass_pipelines.report.page import figure, table, user_text

MATRIX_LABELS = 12
"""Matrices with more labels are shown as a list of their most frequent confusions."""
WIDE_LABELS = 5
"""Matrices with more labels get the width of the page and narrow columns."""
CONFUSIONS_SHOWN = 30
_HALF = 5
"""Tenths of a row; the style sheet uses dark shades above this."""


def confusion_figure(matrix: ConfusionMatrix) -> Html:
    """Return the matrix as a table of counts, or its most frequent confusions when it has many labels."""
    title = headlines.confusion_summary(matrix)
    if len(matrix.labels) > MATRIX_LABELS:
        confused_pairs = headlines.confusions(matrix)[:CONFUSIONS_SHOWN]
        lines = (
            [
                user_text(expected, 80),
                bar(wrong / total, tone="bad"),
                user_text(predicted, 80),
                f"{count(wrong)} of {count(total)}",
            ]
            for expected, predicted, wrong, total in confused_pairs
        )
        headers = ["Label", "Share of its rows", "Predicted as", "Rows"]
        return figure(
            title,
            table(headers, lines, caption="Most frequent confusions", numeric=(3,), class_="bars"),
            note=f"The most frequent confusions among {len(matrix.labels)} labels.",
        )
    return figure(title, _matrix(matrix), note="Rows: label. Columns: prediction. Percentages are of the row.")


def _matrix(matrix: ConfusionMatrix) -> Html:
    lines = []
    for i, (label, line) in enumerate(zip(matrix.labels, matrix.counts, strict=True)):
        total = sum(line)
        cells = [el("th", user_text(label, 60), scope="row")]
        for j, cell in enumerate(line):
            level = -(-10 * cell // total) if total else 0
            tone = f"{'hit' if i == j else 'miss'}{level}" if cell else ""
            strong = " strong" if level > _HALF else ""
            cells.append(el("td", count(cell), el("small", percent(cell, total)), class_=(tone + strong) or None))
        lines.append(el("tr", *cells))
    head = [
        el("tr", el("td", class_="corner"), el("th", "Prediction", scope="colgroup", colspan=len(matrix.labels))),
        el(
            "tr",
            el("th", "Label", scope="col"),
            *(el("th", user_text(label, 60), scope="col") for label in matrix.labels),
        ),
    ]
    caption = "Confusion matrix: evaluated rows by label and by prediction"
    content = el(
        "table",
        el("caption", caption),
        el("thead", *head),
        el("tbody", *lines),
        class_="heat dense" if len(matrix.labels) > WIDE_LABELS else "heat",
    )
    return el("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)
