"""The trainer of one attempt: ``python -m windlass_pipelines.train``, on PyTorch and Ray Train."""
