"""Probes whether the network enforces NetworkPolicies: a policy permits one of two ports, and a pod tries both."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.kube.client import KubeClient
from windlass.kube.errors import KubeNotFoundError
from windlass.kube.jobs.pod_spec import RestrictedPod
from windlass.kube.kinds import POD
from windlass.kube.objects import Kind, Object, Ref
from windlass.kube.preflight.probe_process import ENFORCED, NO_CONNECTION, NOT_ENFORCED, PERMITTED_PORT

NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy")
_CHECK: Final = "network policies"
_LABEL: Final = "windlass.dev/preflight"
_MANAGER: Final = "windlass-preflight"
_START_SECONDS = 120.0
_POLL_SECONDS = 0.5


class ProbeError(Exception):
    """A pod of the probe did not start or end."""


@dataclass(frozen=True)
class NetworkProbe:
    """Creates a policy, a server and a client in ``namespace``, and deletes them afterwards."""

    client: KubeClient
    namespace: str
    image: str
    """Control plane image of this version."""
    start_seconds: float = _START_SECONDS
    name: str = field(default_factory=lambda: f"windlass-preflight-{secrets.token_hex(3)}")

    def run(self) -> Iterator[CheckResult]:
        """Yield the result.

        Raises:
            KubeApiError: an object cannot be created.
        """
        try:
            with self._created(self._policy()), self._created(self._pod("server", "serve")):
                address = str(self._wait("server", "podIP"))
                with self._created(self._pod("client", "connect", address)):
                    ended = self._wait("client", "exitCode")
        except ProbeError as error:
            action = f"see the events: kubectl --namespace {self.namespace} get events"
            yield warning(_CHECK, f"not checked: {error}", action)
            return
        if ended == ENFORCED:
            yield passed(_CHECK, "enforced")
        elif ended == NOT_ENFORCED:
            action = "install a network plugin that enforces them, such as Cilium or Calico: projects are not isolated"
            yield failed(_CHECK, "not enforced: a pod reached a port that a policy denies", action)
        else:
            result = "pods cannot reach each other" if ended == NO_CONNECTION else f"the probe ended with {ended}"
            yield failed(_CHECK, result, "check the network plugin, and policies of other tools in this namespace")

    def _labels(self, role: str) -> dict[str, str]:
        return {_LABEL: f"{self.name}-{role}"}

    def _policy(self) -> Object:
        """Permit one port of the server; everything else of the two pods is denied."""
        server, client = ({"podSelector": {"matchLabels": self._labels(role)}} for role in ("server", "client"))
        return {
            "apiVersion": NETWORK_POLICY.api_version,
            "kind": NETWORK_POLICY.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "podSelector": {
                    "matchExpressions": [
                        {"key": _LABEL, "operator": "In", "values": [f"{self.name}-server", f"{self.name}-client"]}
                    ]
                },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [client], "ports": [{"protocol": "TCP", "port": PERMITTED_PORT}]}],
                "egress": [{"to": [server]}],
            },
        }

    def _pod(self, role: str, *arguments: str) -> Object:
        module = "windlass.kube.preflight.probe_process"
        template = RestrictedPod(
            container="probe",
            image=self.image,
            amounts={"cpu": "50m", "memory": "64Mi"},
            command=("python", "-m", module, *arguments),
        )
        return {
            "apiVersion": POD.api_version,
            "kind": POD.kind,
            "metadata": {"name": f"{self.name}-{role}", "namespace": self.namespace, "labels": self._labels(role)},
            "spec": {**template.spec(), "restartPolicy": "Never", "activeDeadlineSeconds": 300},
        }

    @contextlib.contextmanager
    def _created(self, manifest: Object) -> Iterator[None]:
        self.client.create(manifest, manager=_MANAGER)
        try:
            yield
        finally:
            with contextlib.suppress(KubeNotFoundError):
                self.client.delete(Ref.of(manifest))

    def _wait(self, role: str, what: str) -> Any:
        """Return the address of a running pod, or the exit code of an ended one."""
        deadline = time.monotonic() + self.start_seconds
        problem = "was not started"
        while time.monotonic() < deadline:
            pod = self.client.get(Ref(POD, f"{self.name}-{role}", self.namespace))
            status = pod.get("status", {})
            if what == "podIP" and status.get("podIP") and status.get("phase") == "Running":
                return status["podIP"]
            for container in status.get("containerStatuses", ()):
                state = container["state"]
                if "terminated" in state:
                    if what == "exitCode":
                        return state["terminated"]["exitCode"]
                    raise ProbeError(f"the {role} ended with exit code {state['terminated']['exitCode']}")
                if "waiting" in state:
                    problem = f"was not started: {state['waiting'].get('reason', 'Pending')}"
            time.sleep(_POLL_SECONDS)
        raise ProbeError(f"the {role} {problem}")
