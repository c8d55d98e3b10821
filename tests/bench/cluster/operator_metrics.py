"""Reads the operators' metrics: API requests, reconciliations and queue length."""

import re
import time
from collections import Counter

from tests.integration.cluster.operator_process import OperatorProcess

_REQUESTS = re.compile(r'windlass_kubernetes_requests_total\{method="(\w+)",status="(\d+)"\} (\S+)')
_RECONCILIATIONS = re.compile(r'windlass_reconciliations_total\{kind="(\w+)",outcome="(\w+)"\} (\S+)')
_WAITING = re.compile(r"^windlass_reconcile_queue_length (\S+)", re.MULTILINE)
_POLL_SECONDS = 0.3
"""Each poll makes the operators render all metrics, which is measured too."""
_ATTEMPTS = 5
WRITES = ("PATCH", "POST", "DELETE")
"""Not PUT, which renews the lease."""


def _metrics(running: OperatorProcess) -> str:
    """The text of the metrics endpoint, with retries for a loaded machine.

    Raises:
        OSError: it does not answer.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return running.ask("/metrics")[1]
        except OSError:
            time.sleep(_POLL_SECONDS)
    return running.ask("/metrics")[1]


def requests(running: OperatorProcess) -> Counter[str]:
    """API server responses by method."""
    counted: Counter[str] = Counter()
    for method, _, number in _REQUESTS.findall(_metrics(running)):
        counted[method] += int(float(number))
    return counted


def writes(running: OperatorProcess) -> int:
    counted = requests(running)
    return sum(counted[method] for method in WRITES)


def reconciliations(running: OperatorProcess, kind: str) -> int:
    """Reconciliations of a kind, including failed ones."""
    found = _RECONCILIATIONS.findall(_metrics(running))
    return sum(int(float(number)) for name, _, number in found if name == kind)


def wait_idle(running: OperatorProcess, *, quiet: float = 1.5, seconds: float = 900) -> float:
    """Wait until the queue is empty and nothing changed for ``quiet`` seconds; return the time of the last change.

    Raises:
        TimeoutError: they do not become idle.
    """
    until = time.perf_counter() + seconds
    last, changed = "", time.perf_counter()
    while time.perf_counter() < until:
        text = _metrics(running)
        waiting = _WAITING.search(text)
        now = str(_RECONCILIATIONS.findall(text))
        if now != last or (waiting and float(waiting[1])):
            last, changed = now, time.perf_counter()
        if time.perf_counter() - changed > quiet:
            return changed
        time.sleep(_POLL_SECONDS)
    raise TimeoutError(f"the operators are not idle within {seconds} s")
