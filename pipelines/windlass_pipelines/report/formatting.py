"""Human-readable numbers and axis ticks."""

import math
from collections.abc import Iterable
from itertools import pairwise

from windlass.kit import numbers

_METRICS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "weighted_f1": "Weighted F1",
    "macro_f1": "Macro F1",
    "perplexity": "Perplexity",
    "exact_answer_rate": "Exact answers",
    "eval_loss": "Evaluation loss",
    "margin_over_baseline": "Margin over the baseline",
    "train_loss": "Training loss",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens per second",
    "grad_norm": "Gradient norm",
}
_SHARES = frozenset({"accuracy", "precision", "recall", "weighted_f1", "macro_f1", "exact_answer_rate"})
_FORMS = ((10.0, ".3f"), (1000.0, ".1f"), (1e9, ",.0f"))
"""(upper limit, format) of numbers."""
_TINY = 0.01
"""Below this, three decimals are not enough."""
_PLAIN_TICKS = (1e-3, 1e6)
"""Axes with maxima in this range have no exponents."""
_MINUTE, _HOUR, _FEW_SECONDS = 60, 3600, 10


def metric_title(name: str) -> str:
    """Return the display name of a metric; an ``eval_`` prefix is ignored."""
    return _METRICS.get(name) or _METRICS.get(name.removeprefix("eval_")) or name.replace("_", " ").capitalize()


def metric_phrase(name: str) -> str:
    """Return the display name of a metric for use inside a sentence."""
    title = metric_title(name)
    return title[:1].lower() + title[1:]


def is_share(name: str) -> bool:
    """Return whether a metric is between 0 and 1 and better when higher."""
    return name.removeprefix("eval_") in _SHARES


def number(value: float | None) -> str:
    """Format a value: three decimals near 1, fewer when large, exponents when tiny; a dash for no value."""
    if value is None or math.isnan(value):
        return "\u2013"
    if math.isinf(value):
        return "\u221e" if value > 0 else "\u2212\u221e"
    size = abs(value)
    form = ".2g" if 0 < size < _TINY else next((form for limit, form in _FORMS if size < limit), ".3g")
    return format(value, form).replace("-", "\u2212")


def count(value: int) -> str:
    """Format a count with thousands separators."""
    return f"{value:,}"


def row_count(value: int) -> str:
    """Format a number of rows."""
    return numbers.count(value, "row")


def percent(part: float, whole: float) -> str:
    """Format a share as whole per cent; only 0 reads as 0 % and only 1 as 100 %."""
    if whole <= 0 or math.isnan(part):
        return "\u2013"
    share = 100 * part / whole
    if 0 < share < 1:
        return "<1\u202f%"
    if 99 < share < 100:  # noqa: PLR2004 - per cent
        return ">99\u202f%"
    return f"{share:.0f}\u202f%"


def compact_count(value: int) -> str:
    """Format a large count with a unit: 22.7 M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}\u202f{unit}"
    return str(value)


def duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f}\u202fs" if seconds < _FEW_SECONDS else f"{whole}\u202fs"
    if whole < _HOUR:
        return f"{whole // _MINUTE}\u202fmin {whole % _MINUTE}\u202fs"
    return f"{whole // _HOUR}\u202fh {whole % _HOUR // _MINUTE}\u202fmin"


def ticks(low: float, high: float, about: int = 4) -> tuple[float, ...]:
    """Return round values that cover ``low`` to ``high``, in about ``about`` steps of 1, 2, 2.5 or 5 times 10^n."""
    if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-300):
        margin = abs(low) * 0.5 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(i * step for i in range(first, last + 1))


def tick_labels(values: Iterable[float]) -> list[str]:
    """Format ticks uniformly, with the fewest digits that make them distinct."""
    listed = list(values)
    step = min((abs(b - a) for a, b in pairwise(listed)), default=1.0)
    top = max((abs(v) for v in listed), default=0.0)
    if top and not _PLAIN_TICKS[0] <= top < _PLAIN_TICKS[1]:
        written = ([f"{v:.{digits}g}" for v in listed] for digits in range(1, 18))
        labels = next((texts for texts in written if len(set(texts)) == len(texts)), [str(v) for v in listed])
        return [text.replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212") for text in labels]
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < step * 1e-6), 6)
    return ["0" if abs(v) < step * 1e-6 else f"{v:,.{decimals}f}".replace("-", "\u2212") for v in listed]
