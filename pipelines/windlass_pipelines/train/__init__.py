"""The trainer of one attempt: ``python -m windlass_pipelines.train``. Torch and Ray Train live only here."""
