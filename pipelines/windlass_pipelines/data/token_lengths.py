"""Counts tokens: with the tokenizer of the base model if there is one, else whitespace-separated words."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from windlass.dataset_files.findings import Findings
from windlass.domain.datasets import Histogram, tokenizer_label

_BINS = 20
_MAX_CHARACTERS = 200_000

TokenCounter = Callable[[Sequence[str]], list[int]]
Lengths = NDArray[np.uint32]


def token_counter(path: str | None, findings: Findings) -> tuple[str, TokenCounter]:
    """Return the name of the counter, for the report, and a function from texts to token counts."""
    if path is None:
        return "whitespace", _words
    content = Path(path).read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception:  # noqa: BLE001 - tokenizers raises no narrower class
        message = "the tokenizer cannot be loaded; lengths are counted in words"
        findings.add("warning", "tokenizer-unreadable", message)
        return "whitespace", _words
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        # Every model truncates texts of this length; the count is extrapolated from the beginning.
        encoded = tokenizer.encode_batch_fast([text[:_MAX_CHARACTERS] for text in texts])
        scales = (max(1.0, len(text) / _MAX_CHARACTERS) for text in texts)
        return [round(len(encoding.ids) * scale) for encoding, scale in zip(encoded, scales, strict=True)]

    return tokenizer_label(hashlib.sha256(content).hexdigest()), count


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def histogram(lengths: Lengths) -> Histogram | None:
    """Return counts in at most 21 bins of equal, round width; the last bin is wider and takes the longest 1 %."""
    if not len(lengths):
        return None
    top, most = float(np.quantile(lengths, 0.99)), int(lengths.max())
    width = _round_width(top / _BINS)
    edges = list(range(int(lengths.min()) // width * width, int(top) + width + 1, width))
    if edges[-1] <= most:
        edges.append(most + 1)
    counts, _ = np.histogram(lengths, bins=edges)
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def _round_width(width: float) -> int:
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= width:
                return step * scale
        scale *= 10
