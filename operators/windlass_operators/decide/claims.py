"""Kueue's Workloads as claims of the quota's book.

A Workload holds GPUs from the moment Kueue reserves quota for it (``status.admission``) until it is finished or
evicted, which clears the field; its ResourceFlavor is the pool. One that waits names the pool by its LocalQueue
(https://kueue.sigs.k8s.io/docs/concepts/workload/, API kueue.x-k8s.io/v1beta2).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from windlass.domain.quota import Claim
from windlass.kube.names import project_of
from windlass.kube.objects import Object
from windlass.kube.resources import GPUPool

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6}


def amount(quantity: str | int) -> int:
    """Return a whole quantity, as GPUs are counted: ``8``, ``1k``.

    Raises:
        ValueError: it is no such quantity.
    """
    text = str(quantity)
    digits = text.rstrip("kM")
    return int(digits) * _SUFFIXES[text[len(digits) :]]


def finished(workload: Object) -> bool:
    """Tell whether a Workload has come to its end: it holds nothing and waits for nothing."""
    return condition(workload, "Finished") == "True"


def condition(subject: Mapping[str, Any], kind: str) -> str:
    """Return the status of a condition, ``Unknown`` when it is not there."""
    found = [one["status"] for one in subject.get("status", {}).get("conditions", ()) if one["type"] == kind]
    return str(found[0]) if found else "Unknown"


def claims(workloads: Iterable[Object], pools: Mapping[str, GPUPool]) -> Iterator[Claim]:
    """Yield one claim for each pool that an unfinished Workload of a project holds GPUs of, or waits for."""
    for workload in workloads:
        metadata = workload["metadata"]
        project = project_of(metadata["namespace"])
        if project is None or finished(workload):
            continue
        name, since = f"{metadata['namespace']}/{metadata['name']}", _moment(metadata["creationTimestamp"])
        admission = workload.get("status", {}).get("admission")
        wanted = _held(admission, pools) if admission else _asked(workload, pools)
        for pool, gpus in wanted.items():
            yield Claim(
                job=f"{name}/{pool}",
                project=project,
                pool=pool,
                gpus=gpus,
                priority=workload.get("spec", {}).get("priority") or 0,
                queued_at=since,
                admitted_at=since if admission else None,
            )


def _held(admission: Object, pools: Mapping[str, GPUPool]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for assigned in admission.get("podSetAssignments", ()):
        for resource, flavor in (assigned.get("flavors") or {}).items():
            if flavor in pools and pools[flavor].spec.resource_name == resource:
                held = amount((assigned.get("resourceUsage") or {}).get(resource, 0))
                sums[flavor] = sums.get(flavor, 0) + held
    return {pool: gpus for pool, gpus in sums.items() if gpus > 0}


def _asked(workload: Object, pools: Mapping[str, GPUPool]) -> dict[str, int]:
    pool = workload.get("spec", {}).get("queueName", "")
    if pool not in pools or workload.get("spec", {}).get("active") is False:
        return {}
    resource = pools[pool].spec.resource_name
    requests = workload.get("status", {}).get("resourceRequests") or ()
    asked = sum(amount((one.get("resources") or {}).get(resource, 0)) for one in requests)
    # Kueue writes the sum at its first look; until then it is one that waits, however large
    return {pool: max(1, asked)}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
