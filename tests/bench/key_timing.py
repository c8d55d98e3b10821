"""Attack class 16: whether the time of a refused key says how much of its secret is right.

Compares secrets that differ from the right one in the first character with those that differ in the last one, in random
order, by Welch's t-test. |t| above 4.5 is a difference (as in dudect, https://eprint.iacr.org/2016/1123). The time of
unknown ids is printed too; ids are no secrets.

    python -m tests.bench.key_timing [--tries 10000] [--seed 1]
"""

import argparse
import gc
import math
import random
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.errors import UnauthenticatedError
from windlass.services.keys import Keys

_LIMIT = 4.5
_WARM_UP = 200
_KEPT = 0.9
"""Fraction of the fastest measurements that is compared: the rest is other work of the machine."""


def measure(tries: int, seed: int) -> dict[str, list[float]]:
    """Return the seconds of refused keys by kind."""
    rng = random.Random(seed)
    harness = ControlPlaneHarness(Path(tempfile.mkdtemp(prefix="windlass-timing-")))
    _, token = Keys(harness.deps, ADMIN).create("ann")
    prefix, public, secret = token.split("_", 2)
    flip = {"first": _other(secret[0]) + secret[1:], "last": secret[:-1] + _other(secret[-1])}
    tokens = {f"{kind} character wrong": f"{prefix}_{public}_{wrong}" for kind, wrong in flip.items()}
    tokens["unknown id"] = f"{prefix}_{'0' * 26}_{secret}"
    seconds: dict[str, list[float]] = {kind: [] for kind in tokens}
    gc.disable()
    for number in range(_WARM_UP + tries):
        kind = rng.choice(list(tokens))
        began = time.perf_counter()
        with suppress(UnauthenticatedError):
            harness.access_control.authenticate(tokens[kind])
        if number >= _WARM_UP:
            seconds[kind].append(time.perf_counter() - began)
    gc.enable()
    harness.close()
    return {kind: sorted(values)[: int(len(values) * _KEPT)] for kind, values in seconds.items()}


def _other(character: str) -> str:
    return "B" if character == "A" else "A"


def welch(first: list[float], second: list[float]) -> float:
    """Return Welch's t."""
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(spread)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    seconds = measure(options.tries, options.seed)
    for kind, values in seconds.items():
        print(f"{kind}: {len(values)} tries, median {statistics.median(values) * 1e6:.1f} us")  # noqa: T201 - the result
    t = welch(seconds["first character wrong"], seconds["last character wrong"])
    print(f"seed {options.seed}: t = {t:.2f} between the first and the last character; limit {_LIMIT}")  # noqa: T201 - the result
    return int(abs(t) > _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
