"""Kubeflow Pipelines: REST client (v2beta1), the states of runs, and the compiled pipeline."""
