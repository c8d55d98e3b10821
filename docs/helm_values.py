"""Reads the documented values of a Helm chart from the comments of its values.yaml."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHARTS = Path(__file__).parents[1] / "helm"
_LONGEST = 200
"""Characters of a default in a table."""


@dataclass(frozen=True)
class Value:
    """One documented key of values.yaml."""

    path: str
    default: str
    text: str
    group: bool
    """Whether the keys below it are documented too."""


def comment_above(lines: list[str], line: int) -> str:
    """Return the comment lines above a line as one text."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(each.strip().removeprefix("#").strip() for each in lines[first:line])


def values(node: yaml.MappingNode, lines: list[str], prefix: str = "") -> Iterator[Value]:
    """Yield the keys that have a comment; deeper keys are part of the default."""
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        text = comment_above(lines, key.start_mark.line)
        if not text:
            continue
        children = list(values(value, lines, f"{path}.")) if isinstance(value, yaml.MappingNode) else []
        yield Value(path, "" if children else _compact(value), text, bool(children))
        yield from children


def _compact(node: yaml.Node) -> str:
    data = yaml.safe_load(yaml.serialize(node))
    text = yaml.safe_dump(data, default_flow_style=True, width=10_000, sort_keys=False)
    text = text.removesuffix("...\n").strip()  # the end mark of a document that is a scalar
    return text if len(text) <= _LONGEST else "see values.yaml"


def all_values(chart: str) -> list[Value]:
    """Return the documented keys of a chart."""
    text = (CHARTS / chart / "values.yaml").read_text("utf-8")
    node = yaml.compose(text)
    assert isinstance(node, yaml.MappingNode)  # noqa: S101 - a broken values.yaml fails every use of the chart
    return list(values(node, text.splitlines()))
