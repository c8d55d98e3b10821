"""Names of the objects of a served version. KubeRay derives further names from that of the RayService."""

import hashlib
from typing import Final

SERVE_PORT: Final = 8000
REPLICA_CONTAINER: Final = "ray-worker"
"""The container of a pod that runs a replica, as opposed to the Ray head."""
TEMPLATE_REVISION: Final = 4
"""Part of the names: increase it when the rendered pods change, so that an upgrade replaces running ones."""
_MAX_PREFIX: Final = 26
"""KubeRay shortens names of more than 50 characters; it appends up to 10."""


def service_of(endpoint: str, key: str, *settings: str) -> str:
    """Return the name of the RayService of an application: at most 40 characters.

    It differs for other ``settings`` of its pods, such as the image: KubeRay replaces no pods by itself, and the old
    ones serve until the new ones are ready.
    """
    parts = "\0".join((key, str(TEMPLATE_REVISION), *settings))
    return f"ep-{endpoint[:_MAX_PREFIX].rstrip('-')}-{hashlib.sha256(parts.encode()).hexdigest()[:10]}"


def credentials_of(service: str) -> str:
    """Return the name of a RayService's Secret; the admission policies require the prefix."""
    return f"{service}-credentials"


def url_of(service: str, namespace: str, key: str) -> str:
    """Return the URL of an application, at the Service that KubeRay creates."""
    return f"http://{service}-serve-svc.{namespace}.svc:{SERVE_PORT}/{key}"
