"""Renders the desired objects of custom resources: pure functions of the spec."""

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as JSON, for server-side apply: only the fields that Windlass owns."""
