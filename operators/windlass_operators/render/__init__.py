"""What the cluster shall hold for a custom resource: pure functions from a spec to objects."""

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON: what server-side apply sends. It holds the fields that Windlass owns, and no others."""
