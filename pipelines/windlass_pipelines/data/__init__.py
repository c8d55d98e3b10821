"""Converts dataset files to the internal form and validates them, in a process with resource limits."""
