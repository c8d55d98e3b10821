"""Rewrites errors of the API for the command line: fields become flags, hints become complete commands."""

import re
from collections.abc import Mapping
from typing import Any

import typer

from windlass.domain.errors import FieldProblem, WindlassError

JOB_FIELDS: Mapping[str, str] = {
    "task": "task",
    "base_model": "base_model",
    "dataset": "dataset",
    "model": "model",
    "name": "name",
    "deploy": "deploy.endpoint",
    "gate": "evaluation.gates",
    "method": "method.type",
    "rank": "method.rank",
    "alpha": "method.alpha",
    "epochs": "training.epochs",
    "max_steps": "training.max_steps",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "max_length": "training.max_length",
    "seed": "training.seed",
    "pool": "resources.pool",
    "workers": "resources.workers",
    "gpus": "resources.gpus_per_worker",
    "priority": "priority",
    "max_duration": "max_duration_seconds",
}
"""The field of a job spec that each parameter of ``job create`` sets."""

_FIELDS: Mapping[str, Mapping[str, str]] = {
    "job": JOB_FIELDS,
    "endpoint": {
        "targets": "traffic",
        "min_replicas": "replicas.min",
        "max_replicas": "replicas.max",
        "start": "stopped",
    },
    "dataset": {
        "column": "options.columns",
        "file_format": "options.file_format",
        "row_format": "options.row_format",
        "encoding": "options.encoding",
        "delimiter": "options.delimiter",
        "quoting": "options.quoting",
        "allow_overlap": "options.allow_overlap",
        "file": "steps",
    },
    "base-model": {"folder": "path"},
    "key": {"days": "expires_in_days", "only": "project"},
    "pool": {"price": "price_per_gpu_hour", "max_per_job": "max_gpus_per_job", "gpu_memory": "gpu_memory_bytes"},
    "project": {"title": "display_name"},
    "quota": {"borrow": "borrowing_limit", "lend": "lending_limit"},
}
"""The field that a parameter sets, by command group, where it has another name."""

_COMMAND = re.compile(
    r"`(windlass (?:audit|base-model|chat|dataset|endpoint|job|key|member|model|pool|predict|project|quota) [^`]+)`"
)


def translate(error: WindlassError, context: typer.Context, connection_flags: str) -> None:
    """Rewrite the fields, the message and the hint of an error that the API returned to a command.

    Args:
        error: the error.
        context: the invocation of the command.
        connection_flags: the flags that select project, server and key, to be repeated in suggested commands.
    """
    original = error.fields
    error.fields = tuple(FieldProblem(_name(problem.pointer, context), problem.problem) for problem in original)
    if original:
        pointer, name = original[0].pointer, error.fields[0].pointer
        for prefix in (f"{pointer}: ", f"{pointer.rpartition('/')[2]}: ", f"{pointer or 'the body'}: "):
            if pointer and error.message.startswith(prefix):
                error.message = f"{name}: {error.message.removeprefix(prefix)}"
                break
    if context.command_path == "windlass status":
        error.hint = error.hint.replace(" (`windlass status`)", "")
    if connection_flags:
        error.hint = _COMMAND.sub(lambda found: f"`{found[1]} {connection_flags}`", error.hint)


def _name(pointer: str, context: typer.Context) -> str:
    """Return the flag or argument that sets a field, else the field's path as in a file."""
    path_parts = context.command_path.split()
    group = path_parts[1] if len(path_parts) > 1 else ""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if len(parts) > 1 and parts[0] in {"spec", "query", "path"}:
        parts = parts[1:]
    if not parts:
        return "the request"
    path = ".".join(parts)
    parameters = {parameter.name: parameter for parameter in context.command.params}
    fields = {name: field for name, field in _FIELDS.get(group, {}).items() if name in parameters}
    fields |= {name: name for name in parameters if name and name not in fields}
    matching = [name for name, field in fields.items() if path == field or path.startswith(f"{field}.")]
    # a field that was read from a file has the name that it has in the file
    if matching and (not context.params.get("file") or context.params.get(matching[0])):
        return _label(parameters[matching[0]])
    if "assign" in parameters and len(parts) > 1 and not context.params.get("file"):
        return f"--set {path}"
    return path


def _label(parameter: Any) -> str:
    """Return a flag with its dashes, or the name of an argument as in the help."""
    if parameter.param_type_name == "option":
        longest: str = max(parameter.opts, key=len)
        return longest
    label: str = parameter.metavar or str(parameter.name).upper()
    return label.strip("[].")
