"""Kubernetes: the custom resources of group ``windlass.dev`` and how they are described to an API server."""
