"""A data processor without processes."""

from pathlib import Path

from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.errors import NotFoundError
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.data.processing import process


class InlineProcessor:
    """``ports.DataProcessor`` that runs the code of the data process when a task is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._results: dict[str, DataResult] = {}
        self.requests: list[DataRequest] = []

    def start(self, name: str, request: DataRequest) -> None:
        self.requests.append(request)
        work = self._folder / f"{name}-{len(self.requests)}"
        work.mkdir(parents=True)
        self._results[name] = process(request, work, folder_transfer())

    def poll(self, name: str) -> DataResult | None:
        if name not in self._results:
            raise NotFoundError(f"no task {name}")
        return self._results[name]

    def problem(self, name: str) -> str:
        del name
        return ""

    def delete(self, name: str) -> None:
        self._results.pop(name, None)
