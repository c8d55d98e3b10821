"""KubeRay and Kueue, from the manifests that their own modules bring."""

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
from tests.bed.builds import Built
from tests.bed.certificates import KUEUE_AUTHORITY, KUEUE_WEBHOOK
from tests.bed.cluster_api import ClusterApi, Json, apply, available, condition, documents
from tests.bed.failures import BedError
from tests.bed.layout import HERE, Bed
from tests.bed.parts import Part

RAY_NAMESPACE = "ray-system"
KUEUE_NAMESPACE = "kueue-system"
_PATCHES = HERE / "manifests" / "kuberay-patches.yaml"
_VALUES = HERE / "manifests" / "kueue-values.yaml"
_KUEUE_SECRET = "kueue-webhook-server-cert"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_PROBE = {
    "apiVersion": "kueue.x-k8s.io/v1beta2",
    "kind": "ResourceFlavor",
    "metadata": {"name": "bed-asks-whether-the-webhooks-answer"},
}


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _rendered(bed: Bed, source: Built, settings: Path, render: Callable[[Path], str]) -> list[Json]:
    """Manifests, rendered once for each module and each version of our settings.

    Kept as JSON: to read 2 MB of definitions as YAML takes longer than Kueue's start.
    """
    known = hashlib.sha256(settings.read_bytes()).hexdigest()[:16]
    final = bed.cache / "manifests" / f"{source.folder.name}-{known}.json"
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final.parent) as folder:
            draft = Path(folder) / "rendered.json"
            draft.write_text(json.dumps(list(documents(render(Path(folder))))), "utf-8")
            draft.rename(final)
    found: list[Json] = json.loads(final.read_text("utf-8"))
    return found


def _run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BedError(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    return ended.stdout


def _ray_manifests(bed: Bed, kuberay: Built) -> list[Json]:
    def render(folder: Path) -> str:
        shutil.copytree(kuberay.file("config"), folder / "config")
        name, tag = kuberay.group.tagged.rsplit(":", 1)
        settings = yaml.safe_load(_PATCHES.read_text("utf-8")) | {
            "resources": ["config/crd", "config/rbac", "config/manager"],
            "images": [{"name": "kuberay/operator", "newName": name, "newTag": tag}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(settings), "utf-8")
        return _run(str(bed.bin / "kubectl"), "kustomize", str(folder))

    return _rendered(bed, kuberay, _PATCHES, render)


def _kueue_manifests(bed: Bed, kueue: Built) -> list[Json]:
    def render(_: Path) -> str:
        repository, tag = kueue.group.tagged.rsplit(":", 1)
        image = "controllerManager.manager.image"
        options = ["--set", f"{image}.repository={repository}", "--set", f"{image}.tag={tag}", "--include-crds"]
        chart = str(kueue.file("charts/kueue"))
        where = ["--namespace", KUEUE_NAMESPACE, "--values", str(_VALUES)]
        return _run(str(bed.bin / "helm"), "template", "kueue", chart, *where, *options)

    return _rendered(bed, kueue, _VALUES, render)


def _split(objects: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """Definitions of custom resources, and the rest."""
    definitions: list[Json] = []
    rest: list[Json] = []
    for each in objects:
        (definitions if each["kind"] == "CustomResourceDefinition" else rest).append(each)
    return definitions, rest


def _webhook_secret(bed: Bed) -> Json:
    def encoded(name: str) -> str:
        return base64.b64encode((bed.pki / name).read_bytes()).decode()

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


def _ray_is_defined(bed: Bed) -> bool:
    with ClusterApi(bed) as api:
        names = ("rayclusters", "rayjobs", "rayservices")
        return all(condition(api.read(f"{_CRDS}/{name}.ray.io"), "Established") for name in names)


def _ray_ready(bed: Bed) -> bool:
    with ClusterApi(bed) as api:
        return available(api, RAY_NAMESPACE, "kuberay-operator")


def _kueue_ready(bed: Bed) -> bool:
    """Kueue's webhooks answer some time after its deployment is available, and refuse every Job until then."""
    with ClusterApi(bed) as api:
        if not available(api, KUEUE_NAMESPACE, "kueue-controller-manager"):
            return False
        status, _ = api.call("POST", "/apis/kueue.x-k8s.io/v1beta2/resourceflavors?dryRun=All", _PROBE)
        return status == HTTPStatus.CREATED


def parts(kuberay: Built, kueue: Built) -> tuple[Part, ...]:
    """Both operators. Kueue looks for the Ray resources at its start and then rarely, so they are defined first."""

    def define_ray(bed: Bed) -> None:
        apply(bed, _split(_ray_manifests(bed, kuberay))[0])

    def start_ray(bed: Bed) -> None:
        apply(bed, [_namespace(RAY_NAMESPACE), *_split(_ray_manifests(bed, kuberay))[1]])

    def start_kueue(bed: Bed) -> None:
        definitions, rest = _split(_kueue_manifests(bed, kueue))
        apply(bed, [_namespace(KUEUE_NAMESPACE), *definitions])
        others = [each for each in rest if (each["kind"], each["metadata"]["name"]) != ("Secret", _KUEUE_SECRET)]
        apply(bed, [_webhook_secret(bed), *others])

    return (
        Part("ray resources", define_ray, _ray_is_defined, needs=("kube-apiserver",)),
        Part("kueue", start_kueue, _kueue_ready, needs=("ray resources", "kubelet", "kube-proxy"), patience=180),
        Part("kuberay", start_ray, _ray_ready, needs=("ray resources", "kubelet", "kube-proxy"), patience=180),
    )
