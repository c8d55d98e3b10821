"""The report and the model card of a training attempt, drawn from facts alone: no model, no data, no network."""

import os
from pathlib import Path

from windlass_pipelines.report import card, training
from windlass_pipelines.report.facts import ReportFacts

__all__ = ["ReportFacts", "write"]


def write(folder: Path, facts: ReportFacts) -> None:
    """Write ``report.html`` and ``README.md`` into ``folder``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.html", training.render(facts)), ("README.md", card.render(facts))):
        draft = folder / f".{name}.tmp"
        with draft.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(folder / name)
