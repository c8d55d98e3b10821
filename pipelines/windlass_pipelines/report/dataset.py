"""The validation report of a dataset version as a page."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from windlass.domain.datasets import Finding, Split, SplitReport, ValidationReport
from windlass_pipelines.report.charts import bar
from windlass_pipelines.report.figures import count, number, percent, rows
from windlass_pipelines.report.markup import Html, el, join
from windlass_pipelines.report.page import document, figure, grid, said, section, table
from windlass_pipelines.report.training import label_balance, token_chart

FINDINGS_SHOWN = 100
_SEVERITIES = {"error": ("Error", "bad"), "warning": ("Warning", "third"), "info": ("Note", "quiet")}


def render_dataset(report: ValidationReport, name: str) -> str:
    """Return the page. ``name`` is how people call the version, e.g. ``reviews, version 2``."""
    total = sum(split.rows for split in report.splits.values())
    body = [
        el(
            "header",
            el("p", "Validation report  \u00b7  ", el("b", name), class_="kicker"),
            el("h1", _headline(report, name)),
            el("p", _dek(report, total), class_="dek"),
        ),
        el(
            "main",
            _findings(report.findings),
            section("Splits", _splits(report)),
            section("Labels", label_balance({split: found.labels for split, found in report.splits.items()})),
            section("Row lengths", _lengths(report), lead=f"Tokens as counted by {report.tokenizer}."),
            _personal(report.personal_data, total),
            _steps(report.steps),
        ),
        el("footer", "Findings marked as errors keep a version from being used; warnings do not."),
    ]
    return document(f"{name}: validation report", body)


def _plural(found: int, noun: str) -> str:
    return f"{count(found)} {noun}" if found == 1 else f"{count(found)} {noun}s"


def _headline(report: ValidationReport, name: str) -> str:
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    if report.errors:
        return f"{name} cannot be used yet: {_plural(len(report.errors), 'error')}"
    return f"{name} can be used" + (f", with {_plural(warnings, 'warning')}" if warnings else ": nothing to correct")


def _dek(report: ValidationReport, total: int) -> str:
    parts = [f"{rows(found.rows)} in {split}" for split, found in report.splits.items()]
    return f"{rows(total)}: {', '.join(parts)}." if parts else "No row could be read."


def _findings(findings: Sequence[Finding]) -> Html:
    order = list(_SEVERITIES)
    ranked = sorted(findings, key=lambda finding: (order.index(finding.severity), -finding.count))
    lines = (
        [
            el("span", _SEVERITIES[finding.severity][0], class_=f"badge {_SEVERITIES[finding.severity][1]}"),
            join([said(finding.message), el("div", said(finding.action), class_="soft") if finding.action else Html()]),
            said(place, 200) if place else "",
            count(finding.count),
        ]
        for finding in ranked[:FINDINGS_SHOWN]
        for place in (_place(finding),)
    )
    headers = ["Severity", "What, and what to do", "Where first", "Times"]
    rest = len(ranked) - FINDINGS_SHOWN
    lead = f"The first {FINDINGS_SHOWN}; {count(rest)} more are in the report's JSON." if rest > 0 else ""
    content = table(headers, lines, caption="Findings", numeric=(3,), class_="findings stack")
    return section("Findings", content, lead=lead)


def _place(finding: Finding) -> str:
    parts = [finding.file, f"line {count(finding.line)}" if finding.line is not None else None, finding.pointer]
    return ", ".join(part for part in parts if part)


def _splits(report: ValidationReport) -> Html:
    def line(split: Split, found: SplitReport) -> list[str]:
        overlap = report.overlap.get(split)
        return [
            split,
            count(found.rows),
            count(found.missing),
            count(found.exact_duplicates),
            count(found.near_duplicates),
            "\u2013" if overlap is None else f"{count(overlap)} ({percent(overlap, found.rows)})",
            "\u2013" if found.groups is None else count(found.groups),
            number(found.tokens_mean) if found.tokens_mean else "\u2013",
            count(found.tokens_max) if found.tokens_max else "\u2013",
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
        "Most tokens",
    ]
    lines = (line(split, found) for split, found in report.splits.items())
    return table(headers, lines, caption="Rows of each split", numeric=range(1, 9), class_="stack")


def _lengths(report: ValidationReport) -> Html:
    charts = [token_chart(split, found.tokens) for split, found in report.splits.items() if found.tokens]
    return grid(*charts, width="halves")


def _personal(found: Mapping[str, int], total: int) -> Html:
    ranked = sorted(((kind, n) for kind, n in found.items() if n), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return Html()
    most = ranked[0][1]
    lines = ([said(kind.replace("-", " "), 80), bar(n / most, tone="bad"), count(n)] for kind, n in ranked)
    content = table(
        ["Kind", "Share of the most frequent", "Found"],
        lines,
        caption="Personal data found",
        numeric=(2,),
        class_="bars",
    )
    title = f"{count(sum(found.values()))} places in {rows(total)} look like personal data"
    note = "Found by patterns, so some may be harmless. The cleaning step mask-personal-data replaces them by tags."
    return section("Personal data", figure(title, content, note=note))


def _steps(steps: Sequence[Mapping[str, Any]]) -> Html:
    lines = (
        [
            f"{position}. {clean_name}",
            said("; ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in step.items() if key != "op")),
        ]
        for position, step in enumerate(steps, start=1)
        for clean_name in (str(step.get("op", "step")),)
    )
    content = table(["Step", "What it did"], lines, caption="Cleaning steps in order")
    return section("How it was cleaned", content)


def _value(value: object) -> str:
    return (
        count(value)
        if isinstance(value, int) and not isinstance(value, bool)
        else (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))
    )
