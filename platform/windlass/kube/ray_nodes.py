"""Parts of the pods of Ray, for trainers and for model servers."""

from typing import Any, Final

RAY_READINESS_PROBE: Final[dict[str, Any]] = {
    "httpGet": {"path": "/api/healthz", "port": 52365},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 60,
}
"""KubeRay's own probe (of the agent of the dashboard, Ray 2.53 or newer) waits ten seconds first."""
_OBJECT_STORE_BYTES: Final = 128 << 20
"""Neither training data nor requests pass Ray's object store; Ray would reserve 30% of the memory for it."""


def ray_resources(*, cpus: int, gpus: int) -> dict[str, str]:
    """Return the start parameters with a node's logical resources: KubeRay does not know those of MIG slices."""
    amounts = {"num-cpus": cpus, "num-gpus": gpus, "object-store-memory": _OBJECT_STORE_BYTES}
    return {name: str(amount) for name, amount in amounts.items()}
