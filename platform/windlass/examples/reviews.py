"""The product reviews: from the ground truth in the vaderSentiment source release to ``reviews.csv``.

The source has one sentence per line: id, mean of 20 ratings on -4..4, text, separated by tabs. An id is the review's
number, an underscore and the sentence's number; sentences of one review must be in the same split.
"""

import csv
import io
from pathlib import Path

from windlass.examples.archives import read_tar_member

_OUTER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_INNER = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
_NEUTRAL = 0.05


def write_reviews(release: Path, target: Path) -> None:
    """Write ``reviews.csv`` with the columns text, label, review, rating."""
    with release.open("rb") as stream:
        inner = read_tar_member(stream, _OUTER)
    truth = read_tar_member(io.BytesIO(inner), _INNER).decode("utf-8")
    with (target / "reviews.csv").open("x", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label", "review", "rating"])
        for line in truth.splitlines():
            sentence, rating, text = line.split("\t")
            rows.writerow([text.strip(), label_of(float(rating)), sentence.rpartition("_")[0], rating])


def label_of(rating: float) -> str:
    """Return positive above 0.05, negative below -0.05, else neutral; exactly 0.05 is neutral."""
    if rating > _NEUTRAL:
        return "positive"
    return "negative" if rating < -_NEUTRAL else "neutral"
