"""Pipeline runs on a Kubeflow Pipelines server of the same cluster."""
