"""Generates the sections between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in docs/ from the code.

``make docs`` runs it; tests/docs/test_reference.py fails when a page differs from the code.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docs import command_line, helm_values, rest
from pydantic import BaseModel, TypeAdapter

from windlass import (
    audit_settings,
    cluster_settings,
    database_settings,
    encryption_settings,
    identity_settings,
    pipeline_settings,
    settings,
)
from windlass.cli.errors import exit_code
from windlass.domain.datasets import CleaningStep
from windlass.domain.endpoints import EndpointSpec
from windlass.domain.errors import error_classes
from windlass.domain.ingest import IngestOptions
from windlass.domain.jobs import MOVES, JobState
from windlass.domain.projects import ANY_USER, GRANTS, PLATFORM_GRANTS, Permission, PlatformRole, Role
from windlass.domain.reasons import CATALOGUE
from windlass.domain.specs import GATE_METRICS, JobSpec
from windlass.domain.training_report import TrainingReport
from windlass.wire.problems import status_of

DOCS = Path(__file__).parent
SECTION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Schema = dict[str, Any]


def plain(text: str) -> str:
    """Return a docstring's paragraph as one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def first_paragraph(subject: object) -> str:
    return plain(inspect.cleandoc(inspect.getdoc(subject) or "").split("\n\n")[0])


def table(heads: list[str], rows: list[list[str]]) -> str:
    cells = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def errors() -> str:
    """Return one section per error code, so that links can refer to a code."""
    parts = []
    for kind in sorted(error_classes(), key=lambda kind: kind.code):
        retry = "A retry of the same request may succeed." if kind.retryable else "A retry of the same request fails."
        parts += [f"### {kind.code}", first_paragraph(kind)]
        mapping = f"HTTP {status_of(kind).value}. SDK: `{kind.__name__}`. CLI: exit code {exit_code(kind(''))}."
        parts += [f"{mapping} {retry}"]
    return "\n\n".join(parts)


def bounds(schema: Schema) -> str:
    """Return the limits of a value as text."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    if "maxLength" in schema:
        limits.append(f"at most {schema['maxLength']} characters")
    if "maxItems" in schema:
        limits.append(f"at most {schema['maxItems']} items")
    return ", ".join(limits)


def kind_of(schema: Schema, definitions: Schema) -> str:
    """Return the type of a value as text."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return kind_of(definitions[name], definitions) if "enum" in definitions[name] else f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(kind_of(choice, definitions) for choice in choices if choice.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}), definitions)}"
    return str(schema.get("type", "any"))


def value_of(name: str, model: Schema) -> str:
    """Return the default of a field as JSON, or ``required``."""
    default = model["properties"][name].get("default")
    if name in model.get("required", []):
        return "required"
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default)}`"


def meaning_of(schema: Schema) -> str:
    limits = ", ".join(filter(None, (bounds(choice) for choice in [schema, *schema.get("anyOf", [])])))
    return "; ".join(filter(None, (plain(schema.get("description", "")), limits)))


def model_tables(schema: Schema, title: str | None = None) -> str:
    """Return one table for a model, then one for each model it refers to."""
    definitions = schema.get("$defs", {})
    models = ([(title, schema)] if title else []) + [(n, d) for n, d in definitions.items() if "properties" in d]
    parts = []
    for name, model in models:
        rows = [
            [f"`{field}`", kind_of(s, definitions), value_of(field, model), meaning_of(s)]
            for field, s in model["properties"].items()
        ]
        parts.append(
            f"### {name}\n\n{plain(model.get('description', ''))}\n\n"
            + table(["field", "type", "default", "meaning"], rows)
        )
    return "\n".join(parts)


def job_states() -> str:
    """Return the state diagram and the table of valid transitions."""
    lines = ["stateDiagram-v2", f"    [*] --> {JobState.QUEUED}"]
    for state, targets in MOVES.items():
        lines += [f"    {state} --> {target}" for target in JobState if target in targets]
        lines += [f"    {state} --> [*]"] if state.terminal else []
    rows = [[f"`{s}`", ", ".join(f"`{t}`" for t in JobState if t in MOVES[s]) or "none (terminal)"] for s in JobState]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n\n" + table(["from", "to"], rows)


def settings_groups() -> Iterator[type[BaseModel]]:
    modules = (
        *(audit_settings, settings, cluster_settings, database_settings, encryption_settings),
        *(identity_settings, pipeline_settings),
    )
    members = sorted(member for module in modules for member in inspect.getmembers(module, inspect.isclass))
    for group in dict(members).values():
        if group.__module__ in {module.__name__ for module in modules} and issubclass(group, BaseModel):
            yield group


def configuration() -> str:
    parts = []
    for group in settings_groups():
        prefix = str(group.model_config.get("env_prefix", ""))
        schema = group.model_json_schema()
        rows = [
            [f"`{prefix}{name.upper()}`", value_of(name, schema), meaning_of(s)]
            for name, s in schema["properties"].items()
        ]
        parts.append(f"### {prefix}*\n\n{first_paragraph(group)}\n\n" + table(["variable", "default", "meaning"], rows))
    return "\n".join(parts)


def roles() -> str:
    """Return the table of roles and their permissions."""
    rows = []
    for permission in Permission:
        granted = ["yes" if permission in GRANTS[role] else "" for role in Role]
        platform = ["yes" if permission in PLATFORM_GRANTS[role] else "" for role in PlatformRole]
        anyone = "yes" if permission in ANY_USER else ""
        rows.append([f"`{permission}`", *granted, *platform, anyone])
    names = [f"`{role}`" for role in (*Role, *PlatformRole)]
    return table(["permission", *names, "every user"], rows)


def reasons() -> str:
    """Return the table of Reason codes."""
    rows = [[f"`{code}`", f"`{entry.action_by}`", entry.meaning] for code, entry in sorted(CATALOGUE.items())]
    return table(["code", "who can act", "meaning"], rows)


def gate_metrics() -> str:
    """Return the table of the metrics of each task."""
    return table(["task", "metrics"], [[f"`{t}`", ", ".join(f"`{m}`" for m in ms)] for t, ms in GATE_METRICS.items()])


def decisions() -> str:
    """Return the list of the architecture decision records."""
    entries = []
    for file in sorted((DOCS / "adr").glob("[0-9]*.md")):
        number, _, title = file.read_text("utf-8").partition("\n")[0].removeprefix("# ").partition(". ")
        if number != "0000":
            entries.append(f"- [{number}](adr/{file.name}) {title}")
    return "\n".join(entries)


def chart_values(chart: str) -> str:
    """Return the tables of a chart's values: one of the values without keys below them, then one for each group."""
    documented = helm_values.all_values(chart)
    groups = {value.path: value.text for value in documented if value.group and "." not in value.path}
    rows: dict[str, list[list[str]]] = {"": [], **{name: [] for name in groups}}
    for value in documented:
        group = value.path.partition(".")[0]
        if value.path not in groups:
            default = f"`{value.default}`" if value.default else ""
            rows[group if group in groups else ""].append([f"`{value.path}`", default, value.text])
    heads = ["value", "default", "meaning"]
    return "\n".join(
        (f"### {name}\n\n{groups[name]}\n\n" if name else "") + table(heads, each)
        for name, each in rows.items()
        if each
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "errors": errors,
    "job-spec": lambda: model_tables(JobSpec.model_json_schema(), "JobSpec"),
    "gate-metrics": gate_metrics,
    "endpoint-spec": lambda: model_tables(EndpointSpec.model_json_schema(), "EndpointSpec"),
    "ingest-options": lambda: model_tables(IngestOptions.model_json_schema(), "IngestOptions"),
    "cleaning-steps": lambda: model_tables(TypeAdapter[Any](CleaningStep).json_schema()),
    "job-states": job_states,
    "configuration": configuration,
    "helm-values": lambda: chart_values("windlass"),
    "helm-values-stack": lambda: chart_values("windlass-stack"),
    "helm-values-kubeflow-pipelines": lambda: chart_values("kubeflow-pipelines"),
    "commands": command_line.commands,
    "decisions": decisions,
    "exit-codes": command_line.exit_codes,
    "reasons": reasons,
    "rest": rest.rest,
    "roles": roles,
    "training-report": lambda: model_tables(TrainingReport.model_json_schema(), "TrainingReport"),
}


def rendered(page: Path) -> str:
    """Return the text of a page with its sections generated.

    Raises:
        KeyError: the page names an unknown section.
    """
    return SECTION.sub(lambda match: f"{match[1]}{SECTIONS[match[2]]().strip()}\n{match[3]}", page.read_text("utf-8"))


def pages() -> list[Path]:
    return sorted(page for page in DOCS.rglob("*.md") if SECTION.search(page.read_text("utf-8")))


if __name__ == "__main__":
    for path in pages():
        path.write_text(rendered(path), "utf-8")
