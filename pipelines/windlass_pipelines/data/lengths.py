"""Counts tokens: with the base model's own tokenizer when there is one, else words between white space."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from windlass.domain.datasets import Histogram
from windlass_pipelines.data.findings import Findings

_BINS = 20
_MAX_CHARACTERS = 200_000

Counter = Callable[[Sequence[str]], list[int]]
Lengths = NDArray[np.uint32]


def token_counter(path: str | None, findings: Findings) -> tuple[str, Counter]:
    """Return what counts, for the report, and a function from texts to their numbers of tokens."""
    if path is None:
        return "whitespace", _words
    content = Path(path).read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception:  # noqa: BLE001 - tokenizers raises no narrower class for a file that it cannot use
        message = "the tokenizer cannot be read; lengths are counted in words"
        findings.add("warning", "tokenizer-unreadable", message)
        return "whitespace", _words
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        # Beyond this length a text is cut by any model; its count is scaled from its beginning.
        encoded = tokenizer.encode_batch_fast([text[:_MAX_CHARACTERS] for text in texts])
        scales = (max(1.0, len(text) / _MAX_CHARACTERS) for text in texts)
        return [round(len(found.ids) * scale) for found, scale in zip(encoded, scales, strict=True)]

    return f"tokenizer.json sha256:{hashlib.sha256(content).hexdigest()[:12]}", count


def _words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def histogram(lengths: Lengths) -> Histogram | None:
    """Return counts in at most 21 bins of one round width; the last bin takes the longest hundredth and is wider."""
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
