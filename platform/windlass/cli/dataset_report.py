"""Prints a validation report."""

import shlex
from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.text import Text

from windlass.cli.cleaning import STEP_ORDER
from windlass.cli.plots import bars
from windlass.cli.render import STYLES, ascii_only
from windlass.cli.safe_text import one_line
from windlass.cli.upload_options import as_flags
from windlass.domain.datasets import Finding, Histogram
from windlass.kit.numbers import count
from windlass.wire.datasets import DatasetReportOut

_MARKS = {"error": "error  ", "warning": "warning", "info": "info   "}
_BAR_WIDTH = 60
_PLACES_SHOWN = 3
"""Locations that are listed of findings that are otherwise equal."""
_LABELS_SHOWN = 40


def show_report(console: Console, response: DatasetReportOut) -> None:
    """Print a version's rows, labels, token counts, duplicates, personal data and findings."""
    for line in _lines(console, response):
        console.print(line, soft_wrap=True)
    if command := clean_command(response):
        console.print(Text(f"  clean it: {command}"), soft_wrap=True)


def _lines(console: Console, response: DatasetReportOut) -> Iterator[Text]:
    report, plain = response.report, ascii_only(console)
    width = min(console.width, _BAR_WIDTH) if console.is_terminal else _BAR_WIDTH
    yield Text.assemble((f"{response.ref}  ", "bold"), (str(response.state), STYLES.get(response.state, "")))
    for file in report.files:
        yield Text(f"  {one_line(file.name)}: {count(file.rows, 'row')} ({one_line(file.properties)})")
    for split, numbers in report.splits.items():
        statistics = [count(numbers.rows, "row")]
        statistics += [count(numbers.groups, "group")] if numbers.groups is not None else []
        statistics += [f"{numbers.missing:,} without text, label or answer"] if numbers.missing else []
        statistics += [count(numbers.exact_duplicates, "exact duplicate")] if numbers.exact_duplicates else []
        statistics += [count(numbers.near_duplicates, "near duplicate")] if numbers.near_duplicates else []
        statistics.append(f"{numbers.tokens_mean:.0f} tokens on average, {numbers.tokens_max:,} at most")
        yield Text.assemble((f"  {split}: ", "bold"), ", ".join(statistics))
        if numbers.labels:
            shown = sorted(numbers.labels, key=lambda label: -numbers.labels[label])[:_LABELS_SHOWN]
            labels = {one_line(label): rows for label, rows in numbers.labels.items() if label in shown}
            yield from _block(bars(labels, width, ascii_only=plain))
            if more := len(numbers.labels) - len(labels):
                yield Text(f"    the {_LABELS_SHOWN} most frequent labels; {more:,} more")
        if numbers.tokens is not None and console.is_terminal:
            yield from _block(bars(_ranges(numbers.tokens), width, ascii_only=plain))
    for step in report.steps:
        yield Text(f"  step {one_line(step.get('op'))}: {step.get('rows_in')} rows in, {step.get('rows_out')} out")
    overlaps = {split_name: number for split_name, number in report.overlap.items() if number}
    for split_name, number in overlaps.items():
        yield Text(f"  {one_line(split_name)}: {number:,} of them also in train")
    if report.personal_data:
        kinds = ", ".join(f"{number:,} {one_line(kind)}" for kind, number in report.personal_data.items())
        yield Text(f"  personal data: {kinds}")
    for _, equal in groupby(report.findings, lambda f: (f.severity, f.code, f.message, f.action, f.file)):
        yield _finding(list(equal))


_FLAGS = {
    "incomplete-rows": ("--drop-missing",),
    "personal-data": ("--mask",),
    "similar-labels": ("--merge-labels",),
    "duplicates": ("--dedupe",),
    "near-duplicates": ("--dedupe", "--near"),
    "near-overlap": ("--dedupe", "--near"),
}
"""Flags of ``windlass dataset clean`` by the code of the findings that they remove."""
_NEEDS_SPLIT = {"train-overlap", "label-missing-in-train", "no-validation-rows"}
_ORDER = tuple(f"--{name}" for name in (*STEP_ORDER, "near"))


def clean_command(response: DatasetReportOut) -> str:
    """Return the command that removes what the report found, empty if no cleaning step does."""
    findings = [finding for finding in response.report.findings if finding.severity != "info"]
    flags = {flag for finding in findings for flag in _FLAGS.get(finding.code, ())}
    words = [flag for flag in _ORDER if flag in flags]
    if any(finding.code in _NEEDS_SPLIT and "merge-labels" not in finding.action for finding in findings):
        words += [] if "--dedupe" in words else ["--dedupe"]
        words += ["--split", "0.8/0.2"]
        words += ["--stratify"] if any(split.labels for split in response.report.splits.values()) else []
        words += ["--by-group"] if any(split.groups for split in response.report.splits.values()) else []
    return shlex.join(["windlass", "dataset", "clean", response.ref, *words]) if words else ""


def _block(drawn: Text) -> Iterator[Text]:
    for line in drawn.split():
        yield Text("    ").append_text(line)


def _finding(equal: list[Finding]) -> Text:
    """Return one line for findings that differ only in their location."""
    finding = equal[0]
    text = Text("  ")
    text.append(_MARKS[finding.severity], style=STYLES.get(finding.severity, "dim"))
    text.append(f" {one_line(finding.message)}")
    places = [place for place in map(_location, equal) if place]
    if places:
        more = f" and {len(places) - _PLACES_SHOWN:,} more" if len(places) > _PLACES_SHOWN else ""
        text.append(f" ({one_line(', '.join(places[:_PLACES_SHOWN]))}{more})", style="dim")
    number = sum(found.count for found in equal)
    if places and number > 1:  # without a place, the message has the number
        text.append(f" [{number:,} times]", style="dim")
    if finding.action:
        text.append(f": {one_line(as_flags(finding.action))}", style="italic")
    return text


def _location(finding: Finding) -> str:
    location = ":".join(str(part) for part in (finding.file, finding.line) if part is not None)
    return " ".join(part for part in (location, finding.pointer or "") if part)


def _ranges(histogram: Histogram) -> dict[str, int]:
    edges = histogram.edges
    return {
        f"{low:g} to {high:g} tokens": rows
        for low, high, rows in zip(edges[:-1], edges[1:], histogram.counts, strict=True)
    }
