"""Measures the time from the submission of a job to its first optimizer step in a cluster."""
