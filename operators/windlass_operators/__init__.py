"""The operators: reconcile GPUPool, Project and ModelEndpoint into objects of Kubernetes, Kueue and KubeRay."""
