"""A validation report on the terminal."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from windlass.cli.curves import bars
from windlass.cli.render import STYLES, ascii_only
from windlass.cli.safe_text import one_line
from windlass.domain.datasets import Finding, Histogram
from windlass.wire.datasets import DatasetReportOut

_MARKS = {"error": "error  ", "warning": "warning", "info": "info   "}
_BAR_WIDTH = 60


def show_report(console: Console, found: DatasetReportOut) -> None:
    """Print what is known about a version: rows, labels, lengths, duplicates, personal data, findings."""
    for line in _lines(console, found):
        console.print(line, soft_wrap=True)


def _lines(console: Console, found: DatasetReportOut) -> Iterator[Text]:
    report, plain = found.report, ascii_only(console)
    width = min(console.width, _BAR_WIDTH) if console.is_terminal else _BAR_WIDTH
    yield Text.assemble((f"{found.ref}  ", "bold"), (str(found.state), STYLES.get(found.state, "")))
    for split, numbers in report.splits.items():
        facts = [f"{numbers.rows:,} rows"]
        facts += [f"{numbers.groups:,} groups"] if numbers.groups is not None else []
        facts += [f"{numbers.missing:,} with a missing field"] if numbers.missing else []
        facts += [f"{numbers.exact_duplicates:,} exact duplicates"] if numbers.exact_duplicates else []
        facts += [f"{numbers.near_duplicates:,} near duplicates"] if numbers.near_duplicates else []
        facts.append(f"{numbers.tokens_mean:.0f} tokens on average, {numbers.tokens_max:,} at most")
        yield Text.assemble((f"  {split}: ", "bold"), ", ".join(facts))
        if numbers.labels:
            labels = {one_line(label): count for label, count in numbers.labels.items()}
            yield from _block(bars(labels, width, ascii_only=plain))
        if numbers.tokens is not None and console.is_terminal:
            yield from _block(bars(_ranges(numbers.tokens), width, ascii_only=plain))
    for step in report.steps:
        yield Text(f"  step {one_line(step.get('op'))}: {step.get('rows_in')} rows in, {step.get('rows_out')} out")
    for split_name, count in report.overlap.items():
        yield Text(f"  {one_line(split_name)}: {count:,} rows also stand in train")
    if report.personal_data:
        kinds = ", ".join(f"{count:,} {one_line(kind)}" for kind, count in report.personal_data.items())
        yield Text(f"  personal data: {kinds}")
    for finding in report.findings:
        yield _line(finding)


def _block(drawn: Text) -> Iterator[Text]:
    for line in drawn.split():
        yield Text("    ").append_text(line)


def _line(finding: Finding) -> Text:
    text = Text("  ")
    text.append(_MARKS[finding.severity], style=STYLES.get(finding.severity, "dim"))
    place = ":".join(str(part) for part in (finding.file, finding.line) if part is not None)
    where = " ".join(part for part in (place, finding.pointer or "") if part)
    text.append(f" {one_line(finding.message)}")
    if where:
        text.append(f" ({one_line(where)})", style="dim")
    if finding.count > 1:
        text.append(f" [{finding.count:,} times]", style="dim")
    if finding.action:
        text.append(f": {one_line(finding.action)}", style="italic")
    return text


def _ranges(histogram: Histogram) -> dict[str, int]:
    edges = histogram.edges
    return {
        f"{low:g} to {high:g} tokens": count
        for low, high, count in zip(edges[:-1], edges[1:], histogram.counts, strict=True)
    }
