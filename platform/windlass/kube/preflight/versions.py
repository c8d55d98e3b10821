"""Versions of Kubernetes, Kueue and KubeRay, from the version endpoint and the Deployments of the operators."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.kube.objects import Object, condition_status

KUEUE_DEPLOYMENT: Final = "kueue-controller-manager"
KUBERAY_DEPLOYMENT: Final = "kuberay-operator"
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class Version(NamedTuple):
    """A version; the third number is 0 if it is not known."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        """Return it as ``1.34.0``."""
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the version at the start of a text, None if there is none."""
        found = _VERSION.match(text)
        return cls(int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


KUBERNETES_MINIMUM: Final = Version(1, 34)
"""The functions of CEL that the admission policies use, and what Kueue supports."""
KUEUE_MINIMUM: Final = Version(0, 19)
KUBERAY_MINIMUM: Final = Version(1, 6)
KUEUE_FOR_NEW_KUBERAY: Final = Version(0, 20)
"""Kueue 0.19 resumes a RayService by a field that KubeRay 1.7 reads only when it creates the RayCluster."""
KUBERAY_NEW: Final = Version(1, 7)


@dataclass(frozen=True)
class OperatorDeployment:
    """A Deployment of Kueue or KubeRay."""

    namespace: str
    account: str
    version: Version | None
    available: bool

    @classmethod
    def of(cls, deployment: Object) -> Self:
        """Read a Deployment. The version is that of its label, or of the tag of its image."""
        metadata, pod = deployment["metadata"], deployment["spec"]["template"]["spec"]
        label = metadata.get("labels", {}).get("app.kubernetes.io/version", "")
        tag = pod["containers"][0]["image"].partition("@")[0].rpartition(":")[2]
        return cls(
            namespace=metadata["namespace"],
            account=pod.get("serviceAccountName", "default"),
            version=Version.parse(label) or Version.parse(tag),
            available=condition_status(deployment, "Available") == "True",
        )

    @property
    def user(self) -> str:
        """The user name of its service account."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"


def find_operator(deployments: Iterable[Object], name: str) -> OperatorDeployment | None:
    """Return the operator whose Deployment has this name."""
    return next((OperatorDeployment.of(one) for one in deployments if one["metadata"]["name"] == name), None)


def check_kubernetes(version: Object) -> CheckResult:
    """Check the version that the API server reports."""
    text = str(version.get("gitVersion", ""))
    found = Version.parse(text)
    if found is None or found < KUBERNETES_MINIMUM:
        return failed("kubernetes", text or "unknown version", f"upgrade the cluster to {KUBERNETES_MINIMUM} or later")
    return passed("kubernetes", text)


def check_operators(kueue: OperatorDeployment | None, kuberay: OperatorDeployment | None) -> Iterator[CheckResult]:
    """Check that both operators are there, recent enough, available, and fit together."""
    yield _check_operator("kueue", kueue, KUEUE_MINIMUM, "Kueue queues the jobs")
    yield _check_operator("kuberay", kuberay, KUBERAY_MINIMUM, "KubeRay starts Ray clusters")
    if kueue is None or kuberay is None or kueue.version is None or kuberay.version is None:
        return
    pair = f"Kueue {kueue.version} with KubeRay {kuberay.version}"
    if kueue.version < KUEUE_FOR_NEW_KUBERAY and kuberay.version >= KUBERAY_NEW:
        yield failed(
            "kueue and kuberay",
            f"{pair}: endpoints that Kueue has queued or evicted never start again",
            f"install KubeRay {KUBERAY_MINIMUM.major}.{KUBERAY_MINIMUM.minor} with this Kueue",
        )
        return
    yield passed("kueue and kuberay", pair)


def _check_operator(name: str, operator: OperatorDeployment | None, minimum: Version, purpose: str) -> CheckResult:
    install = f"install version {minimum.major}.{minimum.minor} with its Helm chart"
    if operator is None:
        return failed(name, "not installed", f"{purpose}: {install}")
    where = f"in namespace {operator.namespace}"
    if operator.version is None:
        action = f"its image has no version as its tag: make sure that it is {minimum.major}.{minimum.minor}"
        return warning(name, f"unknown version {where}", action)
    if operator.version < minimum:
        return failed(name, f"{operator.version} {where} is too old", install)
    if not operator.available:
        action = f"kubectl --namespace {operator.namespace} get pods"
        return failed(name, f"{operator.version} {where} is not available", action)
    return passed(name, f"{operator.version} {where}")
