"""The report of one training attempt: result, learning, classes, mistakes, answers, data and facts."""

import json
from collections.abc import Mapping, Sequence

from windlass.domain.datasets import Histogram, Split
from windlass_pipelines.report import story
from windlass_pipelines.report.charts import Level, Mark, Series, bar, dumbbell, finite, histogram, line_chart, thin
from windlass_pipelines.report.facts import ChatSample, ConfusionMatrix, Mistake, ReportFacts
from windlass_pipelines.report.figures import (
    count,
    duration,
    is_share,
    metric_title,
    number,
    percent,
    quantity,
    rows,
    within,
)
from windlass_pipelines.report.markup import Html, el, join
from windlass_pipelines.report.page import details, document, figure, grid, pairs, said, section, table

MISTAKES_SHOWN = 20
SAMPLES_SHOWN = 12
MATRIX_LABELS = 12
LABELS_SHOWN = 30
_NUMBERS_SHOWN = 40
_HALF = 5
"""Tenths of a row; the style sheet has a dark shade from here on."""
_LOSSES = {"train_loss": ("training", "quiet"), "eval_loss": ("evaluation", "main")}


def render(facts: ReportFacts) -> str:
    """Return the page."""
    body = [
        el("header", *_header(facts)),
        el(
            "main",
            _learning(facts),
            _classes(facts),
            _mistakes(facts.mistakes),
            _answers(facts),
            _data(facts),
            _making(facts),
        ),
        el(
            "footer", f"Job {facts.job}, finished {facts.finished_at:%Y-%m-%d %H:%M} {facts.finished_at.tzname() or ''}"
        ),
    ]
    return document(f"{facts.model}: training report", body)


def _header(facts: ReportFacts) -> list[Html]:
    name = story.headline_metric(facts)
    rejected = not facts.passed
    result = []
    if name is not None:
        held_out = rows(facts.data.rows.get(facts.evaluated_on, 0))
        result = [
            el("div", story.short(facts, name, facts.evaluation[name]), class_="big bad" if rejected else "big"),
            el("p", f"{metric_title(name)} on {held_out} held out for {facts.evaluated_on}"),
        ]
    verdicts = [
        el(
            "li",
            el("b", "Passed: " if verdict.passed else "Missed: "),
            f"{story.condition(verdict)}, measured {number(verdict.value)}"
            if verdict.value is not None
            else f"{story.condition(verdict)}, not measured",
            class_=None if verdict.passed else "bad",
        )
        for verdict in facts.gates
    ]
    left = el("div", *result, el("ul", *verdicts, class_="gates") if verdicts else None)
    return [
        el("p", "Training report  \u00b7  ", el("b", facts.project), " / ", el("b", facts.model), class_="kicker"),
        el("h1", story.headline(facts)),
        el("p", story.made_of(facts), class_="dek"),
        el("div", left, _metrics(facts), class_="hero"),
    ]


def _metrics(facts: ReportFacts) -> Html:
    shares = [name for name in facts.evaluation if is_share(name)]
    others = [name for name in facts.evaluation if not is_share(name)]
    gates = {verdict.gate.metric: verdict.gate.threshold for verdict in facts.gates}
    compared = bool(facts.evaluation_before)

    def line(name: str) -> list[str]:
        value, before = facts.evaluation[name], facts.evaluation_before.get(name)
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
        caption="Evaluation on the held-out split",
        numeric=(2, 3),
        class_="metrics",
    )


def _numbers(series: Sequence[Series]) -> Html:
    """Return the curves as a table, for readers who cannot see them."""
    steps = sorted({x for one in series for x, _ in thin(finite(one.points), _NUMBERS_SHOWN)})
    values: Mapping[str, dict[float, float]] = {one.name: dict(finite(one.points)) for one in series}
    lines = [[count(int(x)), *(number(values[one.name].get(x)) for one in series)] for x in steps]
    names = [one.name for one in series]
    numeric = range(1, len(names) + 1)
    return details("Numbers", table(["step", *names], lines, caption="Values by step", numeric=numeric))


def _chart(title: str, series: Sequence[Series], *, note: str = "", levels: Sequence[Level] = (), height: int) -> Html:
    drawing = line_chart(series, label=f"Line chart. {title}. {note}", levels=levels, height=height)
    return figure(title, drawing, note=note, more=_numbers(series) if drawing else None)


def _learning(facts: ReportFacts) -> Html:
    losses = [Series(name, facts.curves[key], tone) for key, (name, tone) in _LOSSES.items() if facts.curves.get(key)]
    scores, leading = _scores(facts)
    levels = [Level("gate", v.gate.threshold) for v in facts.gates if v.gate.metric == leading.removeprefix("eval_")]
    others = sorted(key for key in facts.curves if key not in _LOSSES and not is_share(key))
    small = [_chart(metric_title(key), [Series(metric_title(key), facts.curves[key])], height=130) for key in others]
    early = "Stopped early, as the evaluation loss no longer improved." if facts.stopped_early else ""
    return section(
        "How it learned",
        grid(
            _chart(story.loss_finding(facts), losses, note="Loss by step, lower is better", height=230),
            _chart(
                story.score_finding(leading, facts), scores, note="On the held-out split", levels=levels, height=230
            ),
        ),
        grid(*small, width="thirds"),
        lead=early,
    )


def _scores(facts: ReportFacts) -> tuple[list[Series], str]:
    """Return the curves of shares, the headline's first and strongest, and its name."""
    wanted = story.headline_metric(facts) or ""
    names = sorted(
        (key for key in facts.curves if is_share(key)), key=lambda key: (key.removeprefix("eval_") != wanted, key)
    )
    tones = ["main"] + ["quiet"] * len(names)
    named = [Series(within(key), facts.curves[key], tone) for key, tone in zip(names, tones, strict=False)]
    return named, names[0] if names else ""


def _classes(facts: ReportFacts) -> Html:
    order = sorted(facts.classes, key=lambda label: (facts.classes[label].f1, label))[:LABELS_SHOWN]
    scores = table(
        ["Label", "Rows", "Precision", "Recall", "F1"],
        (
            [
                said(label, 80),
                count(facts.classes[label].support),
                *(
                    join([number(value), bar(value, tone=tone)])
                    for value, tone in (
                        (facts.classes[label].precision, "quiet"),
                        (facts.classes[label].recall, "quiet"),
                        (facts.classes[label].f1, "main"),
                    )
                ),
            ]
            for label in order
        ),
        caption="Scores per label, the weakest first",
        numeric=(1,),
        class_="scores",
    )
    confused = _confusion(facts.confusion) if facts.confusion else Html()
    rest = (
        f" The {LABELS_SHOWN} weakest of {count(len(facts.classes))} are shown."
        if len(order) < len(facts.classes)
        else ""
    )
    title = f"The weakest label is {story.quoted(order[0])}: F1 {number(facts.classes[order[0]].f1)}" if order else ""
    return section(
        "Label by label",
        grid(figure(title, scores, note=f"Scores on the held-out split, the weakest first.{rest}"), confused),
        lead="Precision: how often the model is right when it says a label. Recall: how many rows of a label it finds.",
    )


def _confusion(matrix: ConfusionMatrix) -> Html:
    title = story.confusion_finding(matrix)
    if len(matrix.labels) > MATRIX_LABELS:
        found = story.confusions(matrix)[:LABELS_SHOWN]
        lines = (
            [
                said(expected, 80),
                bar(wrong / total, tone="bad"),
                said(predicted, 80),
                f"{count(wrong)} of {count(total)}",
            ]
            for expected, predicted, wrong, total in found
        )
        headers = ["Labelled", "Share of its rows", "Taken for", "Rows"]
        return figure(
            title,
            table(headers, lines, caption="Most frequent confusions", numeric=(3,), class_="bars"),
            note=f"The most frequent confusions among {len(matrix.labels)} labels.",
        )
    return figure(
        title, _matrix(matrix), note="Rows by their label, columns by what the model says; shares are of the row."
    )


def _matrix(matrix: ConfusionMatrix) -> Html:
    lines = []
    for i, (label, line) in enumerate(zip(matrix.labels, matrix.counts, strict=True)):
        total = sum(line)
        cells = [el("th", said(label, 60), scope="row")]
        for j, cell in enumerate(line):
            level = -(-10 * cell // total) if total else 0
            tone = f"{'hit' if i == j else 'miss'}{level}" if cell else ""
            strong = " strong" if level > _HALF else ""
            cells.append(el("td", count(cell), el("small", percent(cell, total)), class_=(tone + strong) or None))
        lines.append(el("tr", *cells))
    head = [
        el("tr", el("td", class_="corner"), el("th", "The model says", scope="colgroup", colspan=len(matrix.labels))),
        el(
            "tr",
            el("th", "Labelled", scope="col"),
            *(el("th", said(label, 60), scope="col") for label in matrix.labels),
        ),
    ]
    caption = "Confusion matrix: held-out rows by label and by prediction"
    content = el("table", el("caption", caption), el("thead", *head), el("tbody", *lines), class_="heat")
    return el("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _mistakes(mistakes: Sequence[Mistake]) -> Html:
    shown = mistakes[:MISTAKES_SHOWN]
    sure = any(mistake.confidence is not None for mistake in shown)
    lines = (
        [
            said(mistake.text),
            said(mistake.expected, 80),
            said(mistake.predicted, 80),
            *([percent(mistake.confidence, 1) if mistake.confidence is not None else "\u2013"] if sure else []),
        ]
        for mistake in shown
    )
    headers = ["Held-out text", "Labelled", "Model says", *(["How sure"] if sure else [])]
    content = table(headers, lines, caption="Worst mistakes", numeric=(3,), class_="mistakes stack")
    return section(
        "Where it is most wrong",
        content,
        lead="The held-out rows with the highest loss. Some may be wrong in the data rather than in the model.",
    )


def _answers(facts: ReportFacts) -> Html:
    shown = facts.samples[:SAMPLES_SHOWN]
    exact = sum(sample.exact for sample in facts.samples)
    return section(
        "Before and after",
        el("div", *map(_sample, shown), class_="chat") if shown else Html(),
        lead=f"{exact:,} of {len(facts.samples):,} sampled answers are exactly those of the data.",
    )


def _sample(sample: ChatSample) -> Html:
    verdict = el("b", "exact") if sample.exact else el("b", "differs", class_="bad")
    after = el("div", el("h4", "After tuning: ", verdict), el("p", said(sample.after)))
    wanted = el("div", el("h4", "The data says"), el("p", said(sample.expected)), class_="quiet")
    before = None
    if sample.before is not None:
        before = el("div", el("h4", "Before tuning"), el("p", said(sample.before)), class_="quiet")
    right = after if sample.exact else el("div", after, wanted)
    answers = el("div", before, right, class_="answers")
    return el("article", el("h3", said(sample.prompt), class_="ask"), answers, class_="sample")


def _data(facts: ReportFacts) -> Html:
    data = facts.data
    splits = ", ".join(f"{rows(found)} for {split}" for split, found in data.rows.items())
    lengths = [token_chart(split, found, facts.training.max_length) for split, found in data.tokens.items()]
    cut = (
        f" {rows(data.truncated)} longer than {count(facts.training.max_length)} tokens were cut."
        if data.truncated
        else ""
    )
    return section(
        "The data",
        label_balance(data.labels),
        grid(*lengths, width="halves"),
        lead=f"{data.name}, version {data.version}: {splits}.{cut}",
    )


def token_chart(split: Split, lengths: Histogram, cut: int | None = None) -> Html:
    """Draw the row lengths of one split."""
    title = f"Row length in tokens, {split}"
    mark = Mark(f"cut at {cut}", cut) if cut else None
    drawing = histogram(lengths.edges, lengths.counts, label=f"Histogram. {title}.", mark=mark)
    return figure(title, drawing, note="Rows by number of tokens")


def label_balance(labels: Mapping[Split, Mapping[str, int]]) -> Html:
    """Compare the share of each label between the splits: bars for the first, ticks for the second."""
    splits = [split for split in Split if sum(labels.get(split, {}).values())]
    if not splits:
        return Html()
    first, *others = splits
    totals = {split: sum(labels[split].values()) for split in splits}
    names = sorted({label for split in splits for label in labels[split]}, key=lambda n: (-labels[first].get(n, 0), n))
    lines = (
        [
            said(name, 80),
            bar(
                labels[first].get(name, 0) / totals[first],
                tick=labels[others[0]].get(name, 0) / totals[others[0]] if others else None,
            ),
            *(
                f"{count(found)} ({percent(found, totals[split])})"
                for split in splits
                for found in (labels[split].get(name, 0),)
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
        f"The most frequent label, {story.quoted(names[0])}, has {share} of the {first} rows", content, note=rest
    )


def _making(facts: ReportFacts) -> Html:
    base = facts.base_model
    model = {
        "Base model": base.name,
        "Licence": base.licence or "not stated",
        "Weights": quantity(base.parameters),
        "Trained": f"{quantity(base.trainable)} ({percent(base.trainable, base.parameters)})",
        "Method": story.method_phrase(facts.method),
    }
    run = {
        "Time training": duration(facts.training_seconds),
        "Time in all": duration(facts.wall_seconds),
        "Attempts": count(facts.attempts),
        "Steps": count(facts.steps),
        "Workers": f"{facts.workers} \u00d7 {facts.device}",
        "Dataset version": facts.data.version_id,
    }
    parameters = {**facts.method.model_dump(mode="json"), **facts.training.model_dump(mode="json")}
    chosen = {name.replace("_", " "): _setting(value) for name, value in parameters.items() if value is not None}
    return section(
        "How it was made",
        el(
            "div",
            pairs("Model", model),
            pairs("Run", run),
            pairs("Environment", facts.environment),
            class_="grid",
        ),
        pairs("Parameters", chosen, columns=True),
    )


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
