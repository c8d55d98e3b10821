"""Measures the operators and Kueue's admissions on a real cluster: ``python -m tests.bench.cluster``."""
