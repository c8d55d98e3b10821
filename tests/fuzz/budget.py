"""How much the fuzz tests try: a fixed sample in CI, and random inputs for as long as ``make fuzz`` asks for."""

import os

from hypothesis import HealthCheck, Phase, settings

SCALE = int(os.environ.get("FUZZ_SCALE", "0"))
"""``make fuzz``: how many times the examples of CI; 0: the fixed sample of CI."""


def examples(number: int, **options: object) -> settings:
    """Return settings for ``number`` examples in CI, which are always the same ones."""
    phases = [Phase.explicit, Phase.generate] if not SCALE else [*Phase]
    fixed = settings(
        max_examples=number * max(1, SCALE),
        derandomize=not SCALE,
        database=None,  # the corpus is in the tree
        deadline=None,
        print_blob=bool(SCALE),
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    return settings(fixed, **options)  # type: ignore[arg-type]  # further options of the same function
