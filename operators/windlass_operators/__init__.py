"""The operators: they turn GPUPool, Project and ModelEndpoint into what Kubernetes, Kueue and KubeRay understand."""
