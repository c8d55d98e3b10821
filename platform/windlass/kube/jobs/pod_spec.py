"""Parts of pod specs that comply with the *restricted* Pod Security level, with a read-only root filesystem."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from windlass.domain.errors import InvalidError
from windlass.kit.ca_bundle import CA_BUNDLE_FILE, CA_BUNDLE_VARIABLE

Object = dict[str, Any]

CONTEXT_PATH: Final = "/run/windlass/context"
"""Where the Secret of a pod is mounted."""
WORKSPACE_PATH: Final = "/workspace"
"""The pod's scratch folder; also its home, since the root filesystem is read-only."""
_CPU: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(m?)")
_USER: Final = 1000
"""The user of the project's images."""

_MIN_CPU_LIMIT: Final = 2000
"""Thousandths: a process that starts uses more than one that runs, and would start slowly under its own request."""


@dataclass(frozen=True)
class RestrictedPod:
    """One container with scratch space. ``secret``, if any, is mounted read-only at ``CONTEXT_PATH``."""

    container: str
    image: str
    amounts: Mapping[str, str]
    """Requests, which are also the limits, except that the limit of cpu is at least ``_MIN_CPU_LIMIT``."""
    secret: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    """PersistentVolumeClaims by the path at which they are mounted read-only."""
    shared_memory: str = ""
    """Size of /dev/shm; empty: the runtime's default of 64 MiB."""
    service_account: str = "default"
    api_token: bool = False
    """Whether the pod gets a token of its service account."""
    grace_seconds: int = 10
    readiness_probe: Object | None = None
    reports_log: bool = False
    """Whether the end of the log is the termination message of a container that has failed and wrote none itself."""

    def spec(self) -> Object:
        """Return the pod spec, without a restart policy."""
        return {
            "serviceAccountName": self.service_account,
            "automountServiceAccountToken": self.api_token,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": self.grace_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [self._container()],
            "volumes": [
                *self._secret({"name": "context", "secret": {"secretName": self.secret, "defaultMode": 0o440}}),
                *({"name": name, "emptyDir": options} for name, _, options in self._scratch()),
                *(
                    {"name": claim, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
                    for claim in self.claims.values()
                ),
            ],
        }

    def _container(self) -> Object:
        container: Object = {
            "name": self.container,
            "image": self.image,
            "env": [{"name": name, "value": value} for name, value in self._environment().items()],
            "resources": {
                "requests": dict(self.amounts),
                "limits": {**self.amounts, "cpu": cpu_limit(self.amounts["cpu"])},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
            },
            "volumeMounts": [
                *self._secret({"name": "context", "mountPath": CONTEXT_PATH, "readOnly": True}),
                *({"name": name, "mountPath": path} for name, path, _ in self._scratch()),
                *({"name": claim, "mountPath": path, "readOnly": True} for path, claim in self.claims.items()),
            ],
        }
        if self.command:
            container["command"] = list(self.command)
        if self.readiness_probe is not None:
            container["readinessProbe"] = self.readiness_probe
        if self.reports_log:
            container["terminationMessagePolicy"] = "FallbackToLogsOnError"
        return container

    def _secret(self, part: Object) -> list[Object]:
        return [part] if self.secret else []

    def _environment(self) -> dict[str, str]:
        # The file exists if the installation has a private certificate authority.
        trust = {CA_BUNDLE_VARIABLE: f"{CONTEXT_PATH}/{CA_BUNDLE_FILE}"} if self.secret else {}
        return {"HOME": WORKSPACE_PATH, **trust, **self.variables}

    def _scratch(self) -> Iterable[tuple[str, str, Object]]:
        """Yield name, path and options of the writable volumes."""
        yield "workspace", WORKSPACE_PATH, {}
        yield "tmp", "/tmp", {}  # noqa: S108 - the pod's own
        if self.shared_memory:
            yield "shm", "/dev/shm", {"medium": "Memory", "sizeLimit": self.shared_memory}  # noqa: S108 - as above


def millicpus(quantity: str) -> int:
    """Return an amount of CPU (``1500m``, ``2``, ``0.5``) in thousandths, rounded up like Kubernetes.

    Raises:
        InvalidError: it is another notation, or no amount.
    """
    match = _CPU.fullmatch(quantity)
    if match is None:
        raise InvalidError(f"{quantity[:50]!r} is not an amount of CPU such as 1500m or 2")
    return math.ceil(Decimal(match[1]) if match[2] else Decimal(match[1]) * 1000)


def cpu_limit(request: str) -> str:
    """Return the limit of CPU of a container with this request."""
    return f"{max(_MIN_CPU_LIMIT, millicpus(request))}m"


def cpu_threads(quantity: str) -> int:
    """Return the number of threads that compute in a container with a request of ``quantity`` CPU, at least one.

    Libraries count the CPUs of the node instead: their threads would share the container's time, and wait for each
    other whenever the container has used it up.
    """
    return max(1, millicpus(quantity) // 1000)


def context_secret(name: str, files: Mapping[str, str], pod_owner: Object) -> Object:
    """Return a Secret with ``files`` for the pods of an object, in its namespace and with its labels."""
    metadata = pod_owner["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": metadata["namespace"], "labels": metadata.get("labels", {})},
        "type": "Opaque",
        "immutable": True,
        "stringData": dict(files),
    }


def owner_references(owner: Object) -> list[Object]:
    """Return the references by which an object is deleted together with ``owner``."""
    return [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def owned_secret(name: str, files: Mapping[str, str], owner: Object) -> Object:
    """Return a Secret with ``files``, in the namespace of ``owner`` and deleted together with it."""
    secret = context_secret(name, files, owner)
    secret["metadata"]["ownerReferences"] = owner_references(owner)
    return secret
