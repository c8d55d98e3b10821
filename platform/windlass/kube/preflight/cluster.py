"""What a cluster provides: custom resources, admission policies, GPUs, storage, clock."""

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.kube.objects import Kind, Object
from windlass.kube.preflight.versions import OperatorDeployment
from windlass.kube.resources import KINDS
from windlass.kube.resources.base import GROUP

STORAGE_CLASS: Final = Kind("storage.k8s.io/v1", "StorageClass")
CUSTOM_RESOURCE: Final = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
ADMISSION_POLICY: Final = Kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy")
POLICIES: Final = frozenset(
    f"windlass-{name}" for name in ("deletion", "pod-changes", "pod-entry", "pods", "jobs", "priority", "ray")
)
MAX_SKEW: Final = timedelta(seconds=5)
"""Leases and presigned URLs allow for less than this."""

_OPERATORS = "windlass-operators"
_PEERS, _PORT = "WINDLASS_OPERATORS_OBJECT_STORE_PEERS", "WINDLASS_OPERATORS_OBJECT_STORE_PORT"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_ACCOUNT = re.compile(r"system:serviceaccount:[a-z0-9.-]+:[a-z0-9.-]+")


def check_custom_resources(definitions: Iterable[Object]) -> CheckResult:
    """Check that the definitions of the custom resources are installed."""
    missing = {f"{kind.plural}.{GROUP}" for kind in KINDS} - {one["metadata"]["name"] for one in definitions}
    if missing:
        action = "install helm/windlass-crds before helm/windlass"
        return failed("custom resources", f"not installed: {', '.join(sorted(missing))}", action)
    return passed("custom resources", "installed")


def check_policies(policies: Collection[Object], operators: Collection[OperatorDeployment]) -> CheckResult:
    """Check that the admission policies exist, and that they trust the accounts of Kueue and KubeRay."""
    missing = POLICIES - {one["metadata"]["name"] for one in policies}
    if missing:
        action = "install helm/windlass: without them, members of a project can bypass its quota"
        return failed("admission policies", f"not installed: {', '.join(sorted(missing))}", action)
    trusted = {
        account
        for one in policies
        if one["metadata"]["name"] in POLICIES
        for variable in one["spec"].get("variables", ())
        for account in _ACCOUNT.findall(variable["expression"])
    }
    unknown = sorted({operator.user for operator in operators} - trusted)
    if unknown:
        action = "set kueue.namespace and kuberay.namespace in the values of helm/windlass"
        return failed("admission policies", f"they refuse the work of {', '.join(unknown)}", action)
    return passed("admission policies", "installed")


def check_egress(deployments: Iterable[Object], namespace: str) -> Iterator[CheckResult]:
    """Check the addresses that pods of projects may reach, by the settings of the operators if those are installed."""
    for one in deployments:
        if (one["metadata"]["namespace"], one["metadata"]["name"]) != (namespace, _OPERATORS):
            continue
        [container] = one["spec"]["template"]["spec"]["containers"]
        values = {variable["name"]: variable.get("value", "") for variable in container.get("env", ())}
        if values.get(_PEERS, "[]") in {"", "[]", "null"}:
            result = f"pods of projects reach every address on port {values.get(_PORT, '443')}"
            action = "set networkPolicy.objectStoreTo in the values of helm/windlass"
            yield warning("egress of projects", result, action)
        else:
            yield passed("egress of projects", "the object store and the control plane")


def check_gpus(nodes: Iterable[Object]) -> CheckResult:
    """Count the GPUs that nodes offer: extended resources whose name ends with ``gpu``."""
    totals: dict[str, int] = {}
    for node in nodes:
        for name, amount in node.get("status", {}).get("allocatable", {}).items():
            if "/" in name and name.endswith("gpu") and amount.isdigit():
                totals[name] = totals.get(name, 0) + int(amount)
    found = ", ".join(f"{amount} {name}" for name, amount in sorted(totals.items()) if amount)
    if not found:
        action = "install the device plugin of your GPUs, such as NVIDIA's GPU operator; jobs wait until then"
        return warning("gpus", "no node offers a GPU", action)
    return passed("gpus", found)


def check_storage(classes: Iterable[Object]) -> CheckResult:
    """Check that volumes get a StorageClass without naming one."""
    for one in classes:
        if one["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true":
            return passed("storage class", one["metadata"]["name"])
    action = (
        "mark one with `kubectl annotate storageclass NAME "
        f"{_DEFAULT_CLASS}=true`; databases and stores in the cluster need it"
    )
    return warning("storage class", "no StorageClass is the default", action)


def check_clock(name: str, remote: datetime, before: datetime, after: datetime) -> CheckResult:
    """Compare a clock, read between ``before`` and ``after``, with that of this process."""
    # a time of the API server has whole seconds
    early, late = before - remote - timedelta(seconds=1), remote - after
    skew = max(early, late, timedelta())
    if skew > MAX_SKEW:
        result = f"{name} differs by {skew.total_seconds():.0f} s from this machine"
        return failed("clock", result, "synchronise the clocks of the nodes and servers with NTP")
    return passed("clock", f"{name} agrees with this machine")
