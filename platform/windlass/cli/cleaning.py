"""Cleaning steps from flags or from a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from windlass.cli.specs import load_document
from windlass.domain.errors import InvalidError

_SPLIT_PARTS = ("train", "validation", "test")


def steps_from_file(path: Path, flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a YAML list of steps, or a mapping with the key ``steps``.

    Raises:
        InvalidError: the file has no list of steps, or step flags are set too.
    """
    if any(flags.values()):
        raise InvalidError("--file and step flags cannot be combined", hint="put all steps into the file")
    data = load_document(path)
    steps = data.get("steps") if isinstance(data, dict) else data
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise InvalidError(f"{path}: expected a list of steps", hint="example: - op: drop-missing")
    return steps


_STEPS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "drop_missing": lambda _: {"op": "drop-missing"},
    "normalize": lambda _: {"op": "normalize-text"},
    "mask": lambda _: {"op": "mask-personal-data"},
    "map_label": lambda flags: {"op": "map-labels", "labels": dict(map(_label_pair, flags["map_label"]))},
    "merge_labels": lambda _: {"op": "merge-labels"},
    "dedupe": lambda flags: {"op": "deduplicate", "near": flags["near"]},
    "split": lambda flags: {
        "op": "split",
        **parse_split(flags["split"]),
        **{name: flags[name] for name in ("by_group", "stratify", "seed")},
    },
}
"""The step of each flag, in the order of their application: steps that change rows precede those that compare rows."""
STEP_ORDER = tuple(name.replace("_", "-") for name in _STEPS)


def steps_from_flags(flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of the flags in ``STEP_ORDER``.

    Raises:
        InvalidError: no step, or a flag requires another flag that is not set.
    """
    if flags["near"] and not flags["dedupe"]:
        raise InvalidError("--near requires --dedupe")
    if not flags["split"] and (flags["by_group"] or flags["stratify"] or flags["seed"]):
        raise InvalidError("--by-group, --stratify and --seed require --split")
    steps = [build(flags) for name, build in _STEPS.items() if flags[name]]
    if not steps:
        raise InvalidError(
            "no cleaning steps",
            hint="add a flag such as --drop-missing or --split 0.8/0.2, or a file with -f steps.yaml",
        )
    return steps


def _label_pair(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not separator or not old or not new:
        raise InvalidError(
            f"--map-label {text!r}: invalid value",
            hint="write OLD=NEW, for example --map-label invoices=billing; use a file of steps for labels with '='",
        )
    return old, new


def parse_split(text: str) -> dict[str, float]:
    """Parse split fractions (``0.8/0.2``) or percentages (``80/10/10``) into fractions by split name.

    Raises:
        InvalidError: the text has another form, or the parts do not add up to 1 or 100.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) not in {2, 3} or any(not 0 <= part <= 100 for part in parts):  # noqa: PLR2004 - two or three parts, at most 100 per cent each
        raise InvalidError(
            f"--split {text!r}: invalid value",
            hint="write TRAIN/VALIDATION or TRAIN/VALIDATION/TEST, for example 0.8/0.1/0.1",
        )
    total = sum(parts)
    whole = 100 if abs(total - 100) < 1e-6 else 1  # noqa: PLR2004 - per cent
    if abs(total - whole) > 1e-6:  # noqa: PLR2004 - rounding of decimal fractions
        raise InvalidError(f"--split {text!r}: the parts add up to {total:g}, not to 1 or 100")
    padded = [part / whole for part in parts] + [0.0] * (3 - len(parts))
    return dict(zip(_SPLIT_PARTS, padded, strict=True))
