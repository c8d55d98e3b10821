"""Pods that fail in the cluster have the reasons of docs/reference/reasons-in-a-cluster.md."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from tests.integration.cluster.objects import Json, namespace
from tests.integration.cluster.objects import pod as running_pod
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply
from tests.testcluster.errors import EXIT_UNSUPPORTED
from tests.testcluster.fixture import command
from tests.testcluster.layout import NODE, LocalCluster
from tests.testcluster.project_images import reference

from windlass.domain.jobs import Reason
from windlass.kube.kueue.cluster_objects import Pod
from windlass.kube.kueue.pods import explain_ended_pods, explain_pods

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
NAMESPACE, IMAGE = "failures", "control-plane"
USE_MEMORY = "held = []\nwhile True: held.append(bytearray(8 << 20))"
FILL_DISK = "open('/scratch/file', 'wb').write(bytes(8 << 20)); import time; time.sleep(600)"
Explain = Callable[[Sequence[Pod]], Reason | None]


@pytest.fixture(scope="module")
def api(cluster: LocalCluster) -> Iterator[ClusterApi]:
    ended = command(cluster, "up", "--image", IMAGE)
    if ended.returncode == EXIT_UNSUPPORTED:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    apply(cluster, [namespace(NAMESPACE)])
    with ClusterApi(cluster) as client:
        yield client


class FailingPod:
    """A pod on the real node whose container is named as that of a trainer's worker."""

    def __init__(self, api: ClusterApi, name: str, program: str = "") -> None:
        self.api, self.name = api, name
        self.manifest = running_pod(NAMESPACE, reference(IMAGE), ["python", "-c", program])
        self.manifest["metadata"]["name"] = name
        self.container: Json = self.manifest["spec"]["containers"][0]
        self.container["name"] = "ray-worker"

    def spec(self, **fields: Any) -> "FailingPod":
        self.manifest["spec"] |= fields
        return self

    def until(self, code: str, explain: Explain, seconds: float = 90) -> Reason:
        """Create the pod and wait until its reason has a code."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        status, text = self.api.call("POST", path, self.manifest)
        assert status == 201, text
        found: list[Reason | None] = []

        def explained() -> bool:
            found.append(explain([Pod.parse(self.api.read(f"{path}/{self.name}") or {})]))
            return found[-1] is not None and found[-1].code == code

        try:
            eventually(explained, f"pod {self.name} has the reason {code}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it has {found[-1]}") from error
        assert found[-1] is not None
        return found[-1]


def test_a_memory_limit_that_is_too_small(api: ClusterApi) -> None:
    pod = FailingPod(api, "memory", USE_MEMORY)
    pod.container["resources"] = {"limits": {"memory": "128Mi"}}
    reason = pod.until("oom_killed", explain_ended_pods)
    assert (reason.action_by.value, reason.context["container"], reason.context["node"]) == ("user", "ray-worker", NODE)


def test_a_pod_that_the_kubelet_evicts(api: ClusterApi) -> None:
    pod = FailingPod(api, "disk", FILL_DISK)
    pod.container["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    pod.spec(volumes=[{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}], securityContext={"fsGroup": 1000})
    reason = pod.until("pod_evicted", explain_ended_pods, 240)
    assert (reason.context["cause"], reason.context["node"]) == ("Evicted", NODE)
    assert "scratch" in reason.context["detail"]


def test_a_pod_that_the_kubelet_rejects(api: ClusterApi) -> None:
    pod = FailingPod(api, "cpu")
    pod.container["resources"] = {"requests": {"cpu": "900"}}
    reason = pod.until("pod_evicted", explain_ended_pods)
    assert reason.context["cause"] == "OutOfcpu"
    assert reason.message.startswith(f"Node {NODE} rejected pod cpu")


def test_a_program_that_fails(api: ClusterApi) -> None:
    reason = FailingPod(api, "exit", "raise SystemExit(3)").until("container_failed", explain_ended_pods)
    assert reason.context["exit_code"] == 3


def test_an_image_name_that_is_invalid(api: ClusterApi) -> None:
    pod = FailingPod(api, "image")
    pod.container["image"] = "Not/An:Image:name"
    assert pod.until("image_pull_failed", explain_pods).action_by.value == "admin"


def test_a_secret_that_does_not_exist(api: ClusterApi) -> None:
    pod = FailingPod(api, "secret")
    pod.container["envFrom"] = [{"secretRef": {"name": "missing"}}]
    reason = pod.until("container_cannot_start", explain_pods)
    assert reason.context["cause"] == "CreateContainerConfigError"
    assert "missing" in reason.context["detail"]


def test_a_container_that_ends_again_and_again(api: ClusterApi) -> None:
    pod = FailingPod(api, "crash", "raise SystemExit(4)").spec(restartPolicy="Always")
    reason = pod.until("container_cannot_start", explain_pods)
    assert (reason.context["cause"], reason.context["exit_code"]) == ("CrashLoopBackOff", 4)


def test_a_node_selector_that_no_node_matches(api: ClusterApi) -> None:
    pod = FailingPod(api, "nowhere").spec(nodeSelector={"kubernetes.io/hostname": "nowhere"})
    del pod.manifest["spec"]["nodeName"]
    reason = pod.until("unschedulable", explain_pods)
    assert "node affinity/selector" in reason.context["detail"]
