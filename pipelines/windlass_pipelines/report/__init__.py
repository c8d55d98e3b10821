"""The files of a training report, written from a ``TrainingReport`` alone: no model, no dataset, no network."""

from pathlib import Path

from windlass.domain.training_report import HTML_NAME, REPORT_NAME, TrainingReport
from windlass.kit.files import write_atomic
from windlass_pipelines.report import model_card, training

__all__ = ["FILES", "TrainingReport", "write"]

FILES = (HTML_NAME, REPORT_NAME, "README.md")
"""Names of the files that ``write`` writes."""


def write(folder: Path, report: TrainingReport) -> None:
    """Write ``report.html``, ``report.json`` and the model card ``README.md`` to ``folder``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (training.render(report), report.model_dump_json(indent=2) + "\n", model_card.render(report))
    for name, text in zip(FILES, texts, strict=True):
        write_atomic(folder / name, text, durable=False)  # the publication of the folder makes it durable
