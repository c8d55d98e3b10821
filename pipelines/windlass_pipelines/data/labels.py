"""Labels that are probably one: they differ only in case, white space, Unicode form or number format."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

_DECIMAL = re.compile(r"([+-]?(?:0|[1-9][0-9]*))\.([0-9]+)")


def label_key(label: str) -> str:
    """Return a key that is equal for labels that look alike, such as ``Billing`` and ``billing ``, or 1 and 1.0."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    key = " ".join(folded.split())
    if number := _DECIMAL.fullmatch(key):
        fraction = number[2].rstrip("0")
        return f"{number[1]}.{fraction}" if fraction else number[1]
    return key


def similar_labels(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of two or more labels that look alike, sorted."""
    groups: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        groups[label_key(label)].add(label)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def merged_labels(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the new label of each label that is merged: the most frequent of those that look alike."""
    merged: dict[str, str] = {}
    for group in similar_labels(counts):
        chosen = Counter({label: counts[label] for label in group}).most_common(1)[0][0]
        merged |= {label: chosen for label in group if label != chosen}
    return merged
