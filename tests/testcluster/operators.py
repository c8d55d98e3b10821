"""KubeRay and Kueue, from the manifests in their modules."""

import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path

import yaml
from tests.testcluster.builds import BuiltGroup
from tests.testcluster.certificates import KUEUE_AUTHORITY, KUEUE_WEBHOOK
from tests.testcluster.cluster_api import ClusterApi, Json, apply, available, condition, documents
from tests.testcluster.components import Component
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import PACKAGE_DIR, LocalCluster

RAY_NAMESPACE = "ray-system"
KUEUE_NAMESPACE = "kueue-system"
_PATCHES = PACKAGE_DIR / "manifests" / "kuberay-patches.yaml"
_VALUES = PACKAGE_DIR / "manifests" / "kueue-values.yaml"
_KUEUE_SECRET = "kueue-webhook-server-cert"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_PROBE = {
    "apiVersion": "kueue.x-k8s.io/v1beta2",
    "kind": "ResourceFlavor",
    "metadata": {"name": "testcluster-webhook-probe"},
}


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _rendered(cluster: LocalCluster, source: BuiltGroup, settings: Path, render: Callable[[Path], str]) -> list[Json]:
    """The manifests, rendered once per module and settings file.

    Cached as JSON: parsing 2 MB of CRDs as YAML takes longer than Kueue's start.
    """
    digest = hashlib.sha256(settings.read_bytes()).hexdigest()[:16]
    final = cluster.cache / "manifests" / f"{source.folder.name}-{digest}.json"
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent) as folder:
            draft = Path(folder) / "rendered.json"
            draft.write_text(json.dumps(list(documents(render(Path(folder))))), "utf-8")
            draft.rename(final)
    manifests: list[Json] = json.loads(final.read_text("utf-8"))
    return manifests


def _run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LocalClusterError(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    return ended.stdout


def _ray_manifests(cluster: LocalCluster, kuberay: BuiltGroup) -> list[Json]:
    def render(folder: Path) -> str:
        shutil.copytree(kuberay.file("config"), folder / "config")
        name, tag = kuberay.group.tagged.rsplit(":", 1)
        settings = yaml.safe_load(_PATCHES.read_text("utf-8")) | {
            "resources": ["config/crd", "config/rbac", "config/manager"],
            "images": [{"name": "kuberay/operator", "newName": name, "newTag": tag}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        return _run(str(cluster.bin / "kubectl"), "kustomize", str(folder))

    return _rendered(cluster, kuberay, _PATCHES, render)


def _kueue_manifests(cluster: LocalCluster, kueue: BuiltGroup) -> list[Json]:
    def render(_: Path) -> str:
        repository, tag = kueue.group.tagged.rsplit(":", 1)
        image = "controllerManager.manager.image"
        options = ["--set", f"{image}.repository={repository}", "--set", f"{image}.tag={tag}", "--include-crds"]
        chart = str(kueue.file("charts/kueue"))
        where = ["--namespace", KUEUE_NAMESPACE, "--values", str(_VALUES)]
        return _run(str(cluster.bin / "helm"), "template", "kueue", chart, *where, *options)

    return _rendered(cluster, kueue, _VALUES, render)


def _split(objects: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """The CRDs, and the rest."""
    crds: list[Json] = []
    rest: list[Json] = []
    for each in objects:
        (crds if each["kind"] == "CustomResourceDefinition" else rest).append(each)
    return crds, rest


def _webhook_secret(cluster: LocalCluster) -> Json:
    def encoded(name: str) -> str:
        return base64.b64encode((cluster.pki / name).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _KUEUE_SECRET, "namespace": KUEUE_NAMESPACE},
        "data": {
            "ca.crt": encoded(f"{KUEUE_AUTHORITY}.crt"),
            "ca.key": encoded(f"{KUEUE_AUTHORITY}.key"),
            "tls.crt": encoded(f"{KUEUE_WEBHOOK.name}.crt"),
            "tls.key": encoded(f"{KUEUE_WEBHOOK.name}.key"),
        },
    }


def _ray_crds_established(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        names = ("rayclusters", "rayjobs", "rayservices")
        return all(condition(api.read(f"{_CRDS}/{name}.ray.io"), "Established") for name in names)


def _ray_ready(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        return available(api, RAY_NAMESPACE, "kuberay-operator")


def _kueue_ready(cluster: LocalCluster) -> bool:
    """Whether Kueue's webhooks answer: they lag behind the deployment, and every Job is rejected until then."""
    with ClusterApi(cluster) as api:
        if not available(api, KUEUE_NAMESPACE, "kueue-controller-manager"):
            return False
        status, _ = api.call("POST", "/apis/kueue.x-k8s.io/v1beta2/resourceflavors?dryRun=All", _PROBE)
        return status == HTTPStatus.CREATED


def components(kuberay: BuiltGroup, kueue: BuiltGroup) -> tuple[Component, ...]:
    """Both operators. Kueue discovers the Ray CRDs at its start and then rarely, so they are applied first."""

    def apply_ray_crds(cluster: LocalCluster) -> None:
        apply(cluster, _split(_ray_manifests(cluster, kuberay))[0])

    def start_ray(cluster: LocalCluster) -> None:
        apply(cluster, [_namespace(RAY_NAMESPACE), *_split(_ray_manifests(cluster, kuberay))[1]])

    def start_kueue(cluster: LocalCluster) -> None:
        crds, rest = _split(_kueue_manifests(cluster, kueue))
        apply(cluster, [_namespace(KUEUE_NAMESPACE), *crds])
        others = [each for each in rest if (each["kind"], each["metadata"]["name"]) != ("Secret", _KUEUE_SECRET)]
        apply(cluster, [_webhook_secret(cluster), *others])

    return (
        Component("ray crds", apply_ray_crds, _ray_crds_established, depends_on=("kube-apiserver",)),
        Component(
            "kueue",
            start_kueue,
            _kueue_ready,
            depends_on=("ray crds", "kubelet", "kube-proxy"),
            timeout_seconds=180,
        ),
        Component(
            "kuberay", start_ray, _ray_ready, depends_on=("ray crds", "kubelet", "kube-proxy"), timeout_seconds=180
        ),
    )
