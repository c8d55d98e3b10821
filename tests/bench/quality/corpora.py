"""Public data sets with ratings, from the same package as the example ``reviews``."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from windlass.examples.archives import read_tar_member
from windlass.examples.catalogue import CATALOGUE
from windlass.examples.packages import fetch_package
from windlass.examples.reviews import label_of

_OUTER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
CORPORA = {
    "reviews": "amazonReviewSnippets_GroundTruth.txt",
    "editorials": "nytEditorialSnippets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
"""Sentences that 20 people rated from -4 to 4, by the names of the benchmark."""


@dataclass(frozen=True)
class LabelledText:
    """A sentence; sentences of one group must be in the same split."""

    text: str
    label: str
    group: str


def load(name: str, cache: Path, limit: int | None) -> list[LabelledText]:
    """Return the rows of a corpus, downloaded into ``cache``; with a limit its first rows."""
    release = fetch_package(CATALOGUE["reviews"].package, cache, lambda _: None)
    with release.open("rb") as stream:
        archive = read_tar_member(stream, _OUTER)
    text = read_tar_member(io.BytesIO(archive), f"hutto_ICWSM_2014/{CORPORA[name]}").decode("utf-8", "replace")
    rows = []
    for line in text.splitlines():
        number, rating, sentence = line.split("\t", 2)
        rows.append(LabelledText(sentence.strip(), label_of(float(rating)), number.rpartition("_")[0] or number))
    return rows[:limit]


def write_csv(rows: list[LabelledText], path: Path) -> None:
    """Write the columns text, label, group."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "group"])
        writer.writerows([row.text, row.label, row.group] for row in rows)
