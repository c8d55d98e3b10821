"""Cleaning steps from flags or a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windlass.cli.specs import documents
from windlass.domain.errors import InvalidError

_SPLIT_PARTS = ("train", "validation", "test")


def steps_from_file(path: Path, flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a YAML list of steps, or a mapping with ``steps``.

    Raises:
        InvalidError: no such list, or flags beside it.
    """
    if any(flags.values()):
        raise InvalidError("steps come from the file or from flags, not from both")
    data = documents(path)
    steps = data.get("steps") if isinstance(data, dict) else data
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise InvalidError(f"{path}: expected a list of steps", hint="like: - op: drop-missing")
    return steps


def steps_from_flags(flags: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps that flags name, in the order that cleans best: what makes rows equal before what compares them.

    Raises:
        InvalidError: no step, or a flag that needs another.
    """
    steps: list[dict[str, Any]] = []
    if flags["drop_missing"]:
        steps.append({"op": "drop-missing"})
    if flags["normalize"]:
        steps.append({"op": "normalize-text"})
    if flags["mask"]:
        steps.append({"op": "mask-personal-data"})
    if flags["dedupe"]:
        steps.append({"op": "deduplicate", "near": flags["near"]})
    elif flags["near"]:
        raise InvalidError("--near needs --dedupe")
    if flags["split"]:
        options = {name: flags[name] for name in ("by_group", "stratify", "seed")}
        steps.append({"op": "split", **shares(flags["split"]), **options})
    elif flags["by_group"] or flags["stratify"] or flags["seed"]:
        raise InvalidError("--by-group, --stratify and --seed need --split")
    if not steps:
        raise InvalidError(
            "no step", hint="name at least one, like --drop-missing or --split 0.8/0.2, or -f steps.yaml"
        )
    return steps


def shares(text: str) -> dict[str, float]:
    """Read ``0.8/0.2`` or ``80/10/10``.

    Raises:
        InvalidError: not of that form, or the parts do not add up to 1 (or 100).
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) not in {2, 3} or any(not 0 <= part <= 100 for part in parts):  # noqa: PLR2004 - two or three shares, per cent at most
        raise InvalidError(
            f"--split {text!r}", hint="write TRAIN/VALIDATION or TRAIN/VALIDATION/TEST, like 0.8/0.1/0.1"
        )
    total = sum(parts)
    whole = 100 if abs(total - 100) < 1e-6 else 1  # noqa: PLR2004 - per cent
    if abs(total - whole) > 1e-6:  # noqa: PLR2004 - rounding of decimal shares
        raise InvalidError(f"--split {text!r}: the shares add up to {total:g}, not to 1")
    padded = [part / whole for part in parts] + [0.0] * (3 - len(parts))
    # What is left of rounding goes to the last part that has a share, so that the sum is 1.
    return dict(zip(_SPLIT_PARTS, padded, strict=True))
