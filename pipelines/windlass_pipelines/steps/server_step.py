"""What the steps of pipelines on a Kubeflow Pipelines server have in common: their artifacts, and their end."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class ServerArtifact(Protocol):
    """An output artifact of kfp."""

    uri: str
    metadata: dict[str, Any]

    @property
    def path(self) -> str:
        """The local file that is uploaded when the step has succeeded."""
        ...


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


def add_metrics(artifact: ServerArtifact, evaluation: Mapping[str, Any]) -> None:
    """Add the numbers of an evaluation to an artifact, which the page of the run shows."""
    artifact.metadata |= {name: value for name, value in evaluation.items() if isinstance(value, int | float)}
