"""Validation report of a dataset version as an HTML page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.domain.datasets import Finding, Split, SplitReport, ValidationReport
from windlass.domain.ingest import FileReport
from windlass.kit import numbers
from windlass_pipelines.report.charts import bar
from windlass_pipelines.report.formatting import count, number, percent, row_count
from windlass_pipelines.report.markup import Html, el, join
from windlass_pipelines.report.page import document, figure, grid, section, table, user_text
from windlass_pipelines.report.training import label_balance, token_chart

FINDINGS_SHOWN = 100
_SEVERITIES = {"error": ("Error", "bad"), "warning": ("Warning", "third"), "info": ("Note", "quiet")}


def render_dataset(report: ValidationReport, name: str) -> str:
    """Return the HTML page. ``name`` is the display name of the version, e.g. ``reviews, version 2``."""
    total = sum(split.rows for split in report.splits.values())
    body = [
        el(
            "header",
            el("p", "Validation report  \u00b7  ", el("b", name), class_="overline"),
            el("h1", _headline(report, name)),
            el("p", _summary(report, total), class_="summary"),
        ),
        el(
            "main",
            _findings(report.findings),
            _files(report.files),
            section("Splits", _splits(report)),
            section("Labels", label_balance({split: stats.labels for split, stats in report.splits.items()})),
            section("Row lengths", _lengths(report), lead=f"Tokens counted with {report.tokenizer}."),
            _personal(report.personal_data, total),
            _steps(report.steps),
        ),
        el("footer", "A version with errors cannot be used; warnings do not prevent its use."),
    ]
    return document(f"{name}: validation report", body)


def _headline(report: ValidationReport, name: str) -> str:
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    if report.errors:
        return f"{name} cannot be used: {numbers.count(len(report.errors), 'error')}"
    return f"{name} can be used" + (f", with {numbers.count(warnings, 'warning')}" if warnings else ": no warnings")


def _summary(report: ValidationReport, total: int) -> str:
    parts = [f"{row_count(stats.rows)} in {split}" for split, stats in report.splits.items()]
    return f"{row_count(total)}: {', '.join(parts)}." if parts else "No rows could be read."


def _findings(findings: Sequence[Finding]) -> Html:
    order = list(_SEVERITIES)
    ranked = sorted(findings, key=lambda finding: (order.index(finding.severity), -finding.count))
    lines = (
        [
            el("span", _SEVERITIES[finding.severity][0], class_=f"badge {_SEVERITIES[finding.severity][1]}"),
            join(
                [
                    user_text(finding.message),
                    el("div", user_text(finding.action), class_="soft") if finding.action else Html(),
                ]
            ),
            user_text(location, 200) if location else "",
            count(finding.count),
        ]
        for finding in ranked[:FINDINGS_SHOWN]
        for location in (_location(finding),)
    )
    headers = ["Severity", "Finding and action", "Location", "Count"]
    rest = len(ranked) - FINDINGS_SHOWN
    lead = f"The first {FINDINGS_SHOWN}; {count(rest)} more are in the report's JSON." if rest > 0 else ""
    content = table(headers, lines, caption="Findings", numeric=(3,), class_="findings stack")
    return section("Findings", content, lead=lead)


def _location(finding: Finding) -> str:
    parts = [finding.file, f"line {count(finding.line)}" if finding.line is not None else None, finding.pointer]
    return ", ".join(part for part in parts if part)


def _files(files: Sequence[FileReport]) -> Html:
    if not files:
        return Html()
    lines = ([user_text(file.name), user_text(file.properties), count(file.rows)] for file in files)
    return section("Files", table(["File", "Read as", "Rows"], lines, caption="How the files were read", numeric=(2,)))


def _splits(report: ValidationReport) -> Html:
    def line(split: Split, stats: SplitReport) -> list[str]:
        overlap = report.overlap.get(split)
        return [
            split,
            count(stats.rows),
            count(stats.missing),
            count(stats.exact_duplicates),
            count(stats.near_duplicates),
            "\u2013" if overlap is None else f"{count(overlap)} ({percent(overlap, stats.rows)})",
            "\u2013" if stats.groups is None else count(stats.groups),
            number(stats.tokens_mean) if stats.tokens_mean else "\u2013",
            count(stats.tokens_max) if stats.tokens_max else "\u2013",
        ]

    headers = [
        "Split",
        "Rows",
        "Missing",
        "Duplicates",
        "Near duplicates",
        "Also in train",
        "Groups",
        "Mean tokens",
        "Max tokens",
    ]
    lines = (line(split, stats) for split, stats in report.splits.items())
    return table(headers, lines, caption="Rows of each split", numeric=range(1, 9), class_="stack")


def _lengths(report: ValidationReport) -> Html:
    charts = [token_chart(split, stats.tokens) for split, stats in report.splits.items() if stats.tokens]
    return grid(*charts, width="halves")


def _personal(counts: Mapping[str, int], total: int) -> Html:
    ranked = sorted(((kind, n) for kind, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return Html()
    most = ranked[0][1]
    lines = ([user_text(kind.replace("-", " "), 80), bar(n / most, tone="bad"), count(n)] for kind, n in ranked)
    content = table(
        ["Kind", "Relative to the most frequent", "Occurrences"],
        lines,
        caption="Personal data",
        numeric=(2,),
        class_="bars",
    )
    title = f"{count(sum(counts.values()))} possible occurrences of personal data in {row_count(total)}"
    note = "Detected by patterns, so false positives are possible. The cleaning step mask-personal-data masks them."
    return section("Personal data", figure(title, content, note=note))


def _steps(steps: Sequence[Mapping[str, Any]]) -> Html:
    lines = (
        [
            f"{position}. {clean_name}",
            user_text(
                "; ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in step.items() if key != "op")
            ),
        ]
        for position, step in enumerate(steps, start=1)
        for clean_name in (str(step.get("op", "step")),)
    )
    content = table(["Step", "Settings and result"], lines, caption="Cleaning steps in order")
    return section("Cleaning", content)


def _value(value: object) -> str:
    return (
        count(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))
    )
