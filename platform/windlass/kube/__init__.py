"""Kubernetes: API client, informers, Kueue models, and the custom resources of the group ``windlass.dev``."""
