"""Applications of endpoints, and the serving back end of a cluster that runs them."""

from windlass.domain.endpoints import ReplicaRange, ServedApp
from windlass.domain.specs import Task
from windlass.kube.client import KubeClient
from windlass.kube.resources.model_endpoint import HeadResources, ReplicaResources
from windlass.kube.serving.backend import KubernetesServing, ServingSettings


class FixedCredentials:
    """``ServingCredentials`` without a pepper."""

    def authorization(self, key: str) -> str:
        return f"Bearer {key}"

    def token(self, endpoint: str, artifact_uri: str) -> str:
        return f"{endpoint} {artifact_uri}"


def make_served_app(key: str, **changes: object) -> ServedApp:
    """Return an application of an endpoint of its own, whose model does not exist."""
    app = ServedApp(
        key=key,
        project="ours",
        endpoint=key,
        task=Task.TEXT_CLASSIFICATION,
        artifact_uri="s3://bucket/model",
        digest="a" * 64,
        model_name="m@1",
        replicas=ReplicaRange(),
        max_batch_size=8,
        batch_wait_ms=2.5,
    )
    return app.model_copy(update=changes)


def kube_serving(client: KubeClient, control_plane: str, image: str = "windlass/ray:1") -> KubernetesServing:
    """Return the serving back end of a control plane with this name."""
    settings = ServingSettings(
        control_plane=control_plane,
        image=image,
        ray_version="2.60.0",
        internal_url="http://windlass-internal.windlass-system.svc:8742",
        replica=ReplicaResources(),
        head=HeadResources(),
    )
    return KubernetesServing(client, settings, FixedCredentials())
