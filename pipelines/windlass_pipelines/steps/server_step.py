"""What the steps of pipelines on a Kubeflow Pipelines server have in common: their artifacts, and their end."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from windlass.domain.training_report import Curve
from windlass_pipelines.report.curves import render_losses


class ServerArtifact(Protocol):
    """An output artifact of kfp."""

    uri: str
    metadata: dict[str, Any]

    @property
    def path(self) -> str:
        """The local file that is uploaded when the step has succeeded."""
        ...


@dataclass(frozen=True)
class RunArtifacts:
    """What the page of a run shows."""

    evaluation: ServerArtifact
    """Metrics."""
    loss: ServerArtifact
    """An HTML page with the losses of the training."""
    report: ServerArtifact
    """An HTML page."""
    model: ServerArtifact
    """The model by URI and hash."""

    def add_metrics(self, evaluation: Mapping[str, Any]) -> None:
        """Add the numbers of an evaluation."""
        self.evaluation.metadata |= {
            name: value for name, value in evaluation.items() if isinstance(value, int | float)
        }

    def write_losses(self, model: str, curves: Mapping[str, Curve]) -> None:
        """Write the page with the losses, if there are any."""
        if page := render_losses(model, curves):
            Path(self.loss.path).write_text(page, encoding="utf-8")


class TerminatedError(BaseException):
    """SIGTERM was received: the run was terminated, or the pod is evicted."""


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise ``TerminatedError`` in the main thread when SIGTERM is received."""

    def handle(_number: int, _frame: Any) -> None:
        raise TerminatedError

    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
