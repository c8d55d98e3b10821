"""What the operators say of themselves: requests, turns, and whether anything waits."""

import re
import time
from collections import Counter

from tests.integration.cluster.operating import Operators

_REQUESTS = re.compile(r'windlass_kubernetes_requests_total\{method="(\w+)",status="(\d+)"\} (\S+)')
_TURNS = re.compile(r'windlass_reconciliations_total\{kind="(\w+)",outcome="(\w+)"\} (\S+)')
_WAITING = re.compile(r"^windlass_reconcile_queue_length (\S+)", re.MULTILINE)
_LOOK_SECONDS = 0.3
"""Each look makes the operators write all their metrics, which is measured too."""
_TRIES = 5
WRITES = ("PATCH", "POST", "DELETE")
"""Not PUT: with it the lease is renewed, which has nothing to do with changes."""


def _metrics(running: Operators) -> str:
    """What the process says of itself; on a machine that is loaded on purpose not always at the first try.

    Raises:
        OSError: it does not answer.
    """
    for _ in range(_TRIES - 1):
        try:
            return running.ask("/metrics")[1]
        except OSError:
            time.sleep(_LOOK_SECONDS)
    return running.ask("/metrics")[1]


def requests(running: Operators) -> Counter[str]:
    """Answers of the API server by method."""
    counted: Counter[str] = Counter()
    for method, _, number in _REQUESTS.findall(_metrics(running)):
        counted[method] += int(float(number))
    return counted


def writes(running: Operators) -> int:
    counted = requests(running)
    return sum(counted[method] for method in WRITES)


def turns(running: Operators, kind: str) -> int:
    """Reconciliations of a kind, failed ones too."""
    found = _TURNS.findall(_metrics(running))
    return sum(int(float(number)) for name, _, number in found if name == kind)


def settle(running: Operators, *, quiet: float = 1.5, seconds: float = 900) -> float:
    """Wait until nothing waits and nothing was done for ``quiet`` seconds; return when the last thing was done.

    Raises:
        TimeoutError: it does not come to rest.
    """
    until = time.perf_counter() + seconds
    last, changed = "", time.perf_counter()
    while time.perf_counter() < until:
        text = _metrics(running)
        waiting = _WAITING.search(text)
        now = str(_TURNS.findall(text))
        if now != last or (waiting and float(waiting[1])):
            last, changed = now, time.perf_counter()
        if time.perf_counter() - changed > quiet:
            return changed
        time.sleep(_LOOK_SECONDS)
    raise TimeoutError(f"the operators do not come to rest within {seconds} s")
