"""Training report: result, curves, per-label metrics, errors, sample answers, data and provenance."""

import json
from collections.abc import Mapping, Sequence

from windlass.domain.datasets import Histogram, Split
from windlass.domain.training_report import ChatSample, Mistake, TrainingReport
from windlass_pipelines.report import headlines
from windlass_pipelines.report.charts import (
    ReferenceLine,
    Series,
    VerticalLine,
    bar,
    dumbbell,
    histogram,
)
from windlass_pipelines.report.confusion import WIDE_LABELS, confusion_figure
from windlass_pipelines.report.curves import LOSSES, curve_chart, loss_chart
from windlass_pipelines.report.formatting import (
    compact_count,
    count,
    duration,
    is_share,
    metric_phrase,
    metric_title,
    number,
    percent,
    row_count,
)
from windlass_pipelines.report.markup import Html, el, join
from windlass_pipelines.report.page import document, figure, grid, pairs, section, table, user_text

MISTAKES_SHOWN = 20
SAMPLES_SHOWN = 12
LABELS_SHOWN = 30


def render(report: TrainingReport) -> str:
    """Return the HTML page."""
    body = [
        el("header", *_header(report)),
        el(
            "main",
            _training_curves(report),
            _classes(report),
            _worst_errors(report.mistakes),
            _sample_answers(report),
            _data(report),
            _provenance(report),
        ),
        el(
            "footer",
            f"Job {report.job}, finished {report.finished_at:%Y-%m-%d %H:%M} {report.finished_at.tzname() or ''}",
        ),
    ]
    return document(f"{report.model}: training report", body)


def _header(report: TrainingReport) -> list[Html]:
    name = headlines.headline_metric(report)
    rejected = not report.passed
    main_metric = []
    if name is not None:
        main_metric = [
            el(
                "div",
                headlines.short_metric(report, name, report.evaluation[name]),
                class_="big bad" if rejected else "big",
            ),
            el("p", f"{metric_title(name)} on {headlines.evaluated_split(report)}"),
        ]
    gate_items = [
        el(
            "li",
            el("b", "Passed: " if result.passed else "Failed: "),
            f"{headlines.gate_condition(result)}, measured {number(result.value)}"
            if result.value is not None
            else f"{headlines.gate_condition(result)}, not measured",
            class_=None if result.passed else "bad",
        )
        for result in report.gates
    ]
    summary = el("div", *main_metric, el("ul", *gate_items, class_="gates") if gate_items else None)
    return [
        el(
            "p",
            *("Training report  \u00b7  ", el("b", report.project), " / ", el("b", report.model)),
            f"  \u00b7  version of job {report.job}",
            class_="overline",
        ),
        el("h1", headlines.headline(report)),
        el("p", headlines.provenance_phrase(report), class_="summary"),
        *(el("p", el("b", "Warning: "), warning.message, class_="bad") for warning in report.warnings),
        el("div", summary, _metrics(report), class_="hero"),
        _baselines(report),
    ]


def _baselines(report: TrainingReport) -> Html:
    """Compare the model with simple models on the same rows."""
    if not report.baselines:
        return Html()
    names = list(next(iter(report.baselines.values())))
    models = {**report.baselines, report.model: report.evaluation}
    lines = (
        [headlines.BASELINE_TITLES.get(model, model), *(number(scores.get(name)) for name in names)]
        for model, scores in models.items()
    )
    headers = ["Model", *map(metric_title, names)]
    content = table(headers, lines, caption="Comparison with simple models", numeric=range(1, 1 + len(names)))
    return figure("Comparison with simple models on the same rows", content)


def _metrics(report: TrainingReport) -> Html:
    shares = [name for name in report.evaluation if is_share(name)]
    others = [name for name in report.evaluation if not is_share(name)]
    gates = {result.gate.metric: result.gate.threshold for result in report.gates}
    compared = bool(report.evaluation_before)

    def line(name: str) -> list[str]:
        value, before = report.evaluation[name], report.evaluation_before.get(name)
        drawing = dumbbell(before, value, gates.get(name)) if is_share(name) else Html()
        return [metric_title(name), drawing, *([number(before)] if compared else []), el("b", number(value))]

    scale = "From 0 to 1" + (", dashed: gate" if any(map(is_share, gates)) else "")
    headers = [
        "Metric",
        scale if shares else "Scale",
        *(["Before"] if compared else []),
        "After" if compared else "Value",
    ]
    return table(
        headers,
        (line(name) for name in shares + others),
        caption=f"Evaluation on {headlines.evaluated_split(report)}",
        numeric=(2, 3),
        class_="metrics",
    )


def _training_curves(report: TrainingReport) -> Html:
    scores, leading = _scores(report)
    levels = [
        ReferenceLine("gate", v.gate.threshold) for v in report.gates if v.gate.metric == leading.removeprefix("eval_")
    ]
    others = sorted(key for key in report.curves if key not in LOSSES and not is_share(key))
    small = [
        curve_chart(metric_title(key), [Series(metric_title(key), report.curves[key])], height=130) for key in others
    ]
    early = "Stopped early: the evaluation loss no longer improved. " if report.stopped_early else ""
    return section(
        "Training curves",
        grid(
            loss_chart(report.curves),
            curve_chart(
                headlines.score_summary(leading, report),
                scores,
                note="During training",
                levels=levels,
                height=230,
            ),
        ),
        grid(*small, width="thirds"),
        lead=early + headlines.kept_sentence(report),
    )


def _scores(report: TrainingReport) -> tuple[list[Series], str]:
    """Return the curves of metrics in 0 to 1, the main metric first, and the name of the first."""
    wanted = headlines.headline_metric(report) or ""
    names = sorted(
        (key for key in report.curves if is_share(key)), key=lambda key: (key.removeprefix("eval_") != wanted, key)
    )
    tones = ["main"] + ["quiet"] * len(names)
    named = [Series(metric_phrase(key), report.curves[key], tone) for key, tone in zip(names, tones, strict=False)]
    return named, names[0] if names else ""


def _classes(report: TrainingReport) -> Html:
    order = sorted(report.classes, key=lambda label: (report.classes[label].f1, label))[:LABELS_SHOWN]
    scores = table(
        ["Label", "Rows", "Precision", "Recall", "F1"],
        (
            [
                user_text(label, 80),
                count(report.classes[label].support),
                *(
                    join([number(value), bar(value, tone=tone)])
                    for value, tone in (
                        (report.classes[label].precision, "quiet"),
                        (report.classes[label].recall, "quiet"),
                        (report.classes[label].f1, "main"),
                    )
                ),
            ]
            for label in order
        ),
        caption="Metrics per label, lowest F1 first",
        numeric=(1,),
        class_="scores",
    )
    confused = confusion_figure(report.confusion) if report.confusion else Html()
    rest = (
        f" The {LABELS_SHOWN} weakest of {count(len(report.classes))} are shown."
        if len(order) < len(report.classes)
        else ""
    )
    title = (
        f"The weakest label is {headlines.quoted(order[0])}: F1 {number(report.classes[order[0]].f1)}" if order else ""
    )
    scores_figure = figure(title, scores, note=f"On {headlines.evaluated_split(report)}, lowest F1 first.{rest}")
    wide = report.confusion is not None and len(report.confusion.labels) > WIDE_LABELS
    return section(
        "Metrics per label",
        *([grid(scores_figure), grid(confused)] if wide else [grid(scores_figure, confused)]),
        lead="Precision: share of predictions of a label that are correct. Recall: share of its rows that are found.",
    )


def _worst_errors(mistakes: Sequence[Mistake]) -> Html:
    shown = mistakes[:MISTAKES_SHOWN]
    has_confidence = any(mistake.confidence is not None for mistake in shown)
    lines = (
        [
            user_text(mistake.text),
            user_text(mistake.expected, 80),
            user_text(mistake.predicted, 80),
            *(
                [percent(mistake.confidence, 1) if mistake.confidence is not None else "\u2013"]
                if has_confidence
                else []
            ),
        ]
        for mistake in shown
    )
    headers = ["Text", "Label", "Prediction", *(["Confidence"] if has_confidence else [])]
    content = table(headers, lines, caption="Worst errors", numeric=(3,), class_="mistakes stack")
    return section(
        "Worst errors",
        content,
        lead="Misclassified rows of the evaluation with the highest loss. Some may be labelling errors in the dataset.",
    )


def _sample_answers(report: TrainingReport) -> Html:
    shown = report.samples[:SAMPLES_SHOWN]
    exact = sum(sample.exact for sample in report.samples)
    return section(
        "Sample answers",
        el("div", *map(_sample, shown), class_="chat") if shown else Html(),
        lead=f"{exact:,} of {len(report.samples):,} sampled answers match the expected answer exactly."
        + (f" {row_count(report.unanswered)} with a longer prompt were not answered." if report.unanswered else ""),
    )


def _sample(sample: ChatSample) -> Html:
    badge = el("b", "exact match") if sample.exact else el("b", "different", class_="bad")
    after = el("div", el("h4", "Fine-tuned model: ", badge), el("p", user_text(sample.after)))
    wanted = el("div", el("h4", "Expected"), el("p", user_text(sample.expected)), class_="quiet")
    before = None
    if sample.before is not None:
        before = el("div", el("h4", "Base model"), el("p", user_text(sample.before)), class_="quiet")
    right = after if sample.exact else el("div", after, wanted)
    answers = el("div", before, right, class_="answers")
    return el("article", el("h3", user_text(sample.prompt), class_="ask"), answers, class_="sample")


def _data(report: TrainingReport) -> Html:
    data = report.data
    splits = ", ".join(f"{row_count(rows)} for {split}" for split, rows in data.rows.items())
    token_charts = [token_chart(split, lengths, report.training.max_length) for split, lengths in data.tokens.items()]
    return section(
        "Data",
        label_balance(data.labels),
        grid(*token_charts, width="halves"),
        lead=f"{data.name}, version {data.version}: {splits}. {headlines.unused_rows_note(report)}"
        f" {headlines.preparation_note(report)}",
    )


def token_chart(split: Split, lengths: Histogram, max_length: int | None = None) -> Html:
    """Return a histogram of the row lengths of one split."""
    title = f"Row length in tokens, {split}"
    mark = VerticalLine(f"truncated at {max_length}", max_length) if max_length else None
    drawing = histogram(lengths.edges, lengths.counts, label=f"Histogram. {title}.", mark=mark)
    return figure(title, drawing, note="Rows by number of tokens")


def label_balance(labels: Mapping[Split, Mapping[str, int]]) -> Html:
    """Compare label frequencies between splits: bars for the first split, ticks for the second."""
    splits = [split for split in Split if sum(labels.get(split, {}).values())]
    if not splits:
        return Html()
    first, *others = splits
    totals = {split: sum(labels[split].values()) for split in splits}
    names = sorted({label for split in splits for label in labels[split]}, key=lambda n: (-labels[first].get(n, 0), n))
    lines = (
        [
            user_text(name, 80),
            bar(
                labels[first].get(name, 0) / totals[first],
                tick=labels[others[0]].get(name, 0) / totals[others[0]] if others else None,
            ),
            *(
                f"{count(rows)} ({percent(rows, totals[split])})"
                for split in splits
                for rows in (labels[split].get(name, 0),)
            ),
        ]
        for name in names[:LABELS_SHOWN]
    )
    share = percent(labels[first].get(names[0], 0), totals[first])
    tick = f", tick: {others[0]}" if others else ""
    rest = f" The {LABELS_SHOWN} most frequent of {count(len(names))} are shown." if len(names) > LABELS_SHOWN else ""
    headers = ["Label", f"Share of rows (bar: {first}{tick})", *(str(split) for split in splits)]
    content = table(headers, lines, caption="Label balance", numeric=range(2, 2 + len(splits)), class_="bars")
    return figure(
        f"The most frequent label, {headlines.quoted(names[0])}, has {share} of the {first} rows", content, note=rest
    )


def _provenance(report: TrainingReport) -> Html:
    base = report.base_model
    model = {
        "Base model": base.name,
        "Licence": base.licence or "not stated",
        "Parameters": compact_count(base.parameters),
        "Trainable": f"{compact_count(base.trainable)} ({percent(base.trainable, base.parameters)})",
        **({"Pooling": base.pooling} if base.pooling else {}),
        "Method": headlines.method_phrase(report.method),
    }
    run = {
        "Training time": duration(report.training_seconds),
        "Total time": duration(report.wall_seconds),
        "Attempts": count(report.attempts),
        "Steps": count(report.steps),
        "Processes": f"{report.world_size} \u00d7 {report.device}",
        "Dataset version": report.data.version_id,
    }
    parameters = {**report.method.model_dump(mode="json"), **report.training.model_dump(mode="json")}
    hyperparameters = {
        name.replace("_", " "): _setting(value) for name, value in parameters.items() if value is not None
    }
    return section(
        "Provenance",
        el(
            "div",
            pairs("Model", model),
            pairs("Run", run),
            pairs("Environment", report.environment),
            class_="grid",
        ),
        pairs("Hyperparameters", hyperparameters, columns=True),
    )


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
