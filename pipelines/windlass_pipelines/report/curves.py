"""Charts of values by step, and the losses of a training as a page of their own."""

from collections.abc import Mapping, Sequence
from typing import Final

from windlass.domain.training_report import Curve
from windlass_pipelines.report import headlines
from windlass_pipelines.report.charts import ReferenceLine, Series, downsample, finite, line_chart
from windlass_pipelines.report.formatting import count, number
from windlass_pipelines.report.markup import Html, el
from windlass_pipelines.report.page import details, document, figure, table

LOSSES: Final = {"train_loss": ("training", "quiet"), "eval_loss": ("evaluation", "main")}
"""Names of curves that are losses, with their titles and tones."""
_TABLE_STEPS = 40


def curve_chart(
    title: str, series: Sequence[Series], *, note: str = "", levels: Sequence[ReferenceLine] = (), height: int
) -> Html:
    """Return a chart of curves with their values as a table."""
    drawing = line_chart(series, label=f"Line chart. {title}. {note}", levels=levels, height=height)
    return figure(title, drawing, note=note, more=_value_table(series) if drawing else None)


def loss_chart(curves: Mapping[str, Curve]) -> Html:
    """Return a chart of the losses; empty if no value is a finite number."""
    losses = [Series(name, curves[key], tone) for key, (name, tone) in LOSSES.items() if curves.get(key)]
    return curve_chart(headlines.loss_summary(curves), losses, note="Loss by step, lower is better", height=230)


def render_losses(model: str, curves: Mapping[str, Curve]) -> str:
    """Return an HTML page with the losses; empty if no value is a finite number."""
    chart = loss_chart(curves)
    return document(f"{model}: loss", [el("main", chart)]) if chart else ""


def _value_table(series: Sequence[Series]) -> Html:
    """Return the curves as an accessible table."""
    steps = sorted({x for curve in series for x, _ in downsample(finite(curve.points), _TABLE_STEPS)})
    values: Mapping[str, dict[float, float]] = {curve.name: dict(finite(curve.points)) for curve in series}
    lines = [[count(int(x)), *(number(values[curve.name].get(x)) for curve in series)] for x in steps]
    names = [curve.name for curve in series]
    numeric = range(1, len(names) + 1)
    return details("Values", table(["step", *names], lines, caption="Values by step", numeric=numeric))
