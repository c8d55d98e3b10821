"""Checks of a cluster before and after the installation: what Windlass needs, and whether versions fit together."""
