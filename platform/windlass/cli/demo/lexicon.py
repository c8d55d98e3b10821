"""The lexicon baseline: VADER (Hutto and Gilbert, ICWSM 2014), run with its published code.

Module and word lists come from the pinned release that also contains the reviews; its sha256 is verified.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from windlass.cli.demo.console import DemoError
from windlass.examples import CATALOGUE
from windlass.examples.archives import read_tar_member
from windlass.examples.packages import fetch_package
from windlass.examples.reviews import label_of

_MODULE = "vaderSentiment.py"
_FILES = (_MODULE, "vader_lexicon.txt", "emoji_utf8_lexicon.txt")


def lexicon_labels(texts: Sequence[str], cache: Path, progress: Callable[[str], None]) -> list[str]:
    """Return the label of each text: its compound score with the thresholds of the reviews."""
    package = CATALOGUE["reviews"].package
    release = fetch_package(package, cache, progress)
    with tempfile.TemporaryDirectory(prefix="windlass-lexicon-") as folder:
        for name in _FILES:
            with release.open("rb") as archive:
                content = read_tar_member(archive, f"{package.name}-{package.version}/vaderSentiment/{name}")
            (Path(folder) / name).write_bytes(content)
        spec = importlib.util.spec_from_file_location("windlass_demo_lexicon", Path(folder) / _MODULE)
        if spec is None or spec.loader is None:
            raise DemoError("the vaderSentiment module cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        analyzer = module.SentimentIntensityAnalyzer()
        return [label_of(float(analyzer.polarity_scores(text)["compound"])) for text in texts]
