"""Serving: a host process keeps Ray Serve equal to a wish on disk; one application answers for one model version."""
