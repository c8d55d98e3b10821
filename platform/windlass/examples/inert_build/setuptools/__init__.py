"""Replaces setuptools while pip downloads a source release: see ``build_meta``."""
