"""Data tasks and model imports as pods, which reach only their own files."""

from collections.abc import Callable
from pathlib import Path

from windlass.domain.datasets import DataRequest, DataResult
from windlass.domain.errors import InvalidError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.kube.jobs.result_tasks import MODELS_PATH, ResultTasks
from windlass.orchestration.task_result import parse_data_result, parse_import_result


class KubernetesDataProcessor:
    """Implements ``ports.DataProcessor``. ``token`` returns the token for the files of a request."""

    def __init__(self, tasks: ResultTasks, token: Callable[[str, DataRequest], str]) -> None:
        self._tasks, self._token = tasks, token

    def start(self, name: str, request: DataRequest) -> None:
        """Create the Job of the request. Raises as ``ResultTasks.start``."""
        program = ("python", "-P", "-m", "windlass_pipelines.data")
        self._tasks.start(name, program, request.model_dump_json(), self._token(name, request))

    def poll(self, name: str) -> DataResult | None:
        """Return the result, or None while it runs. Raises as the port says."""
        content = self._tasks.poll(name)
        return None if content is None else parse_data_result(content)

    def problem(self, name: str) -> str:
        """Return why its pod does not run now."""
        return self._tasks.problem(name)

    def delete(self, name: str) -> None:
        """Delete the Job with its pods, and the result."""
        self._tasks.delete(name)


class KubernetesModelImporter:
    """Implements ``ports.ModelImporter``. ``token`` returns the token for the files of an import."""

    def __init__(self, tasks: ResultTasks, token: Callable[[str, ImportRequest], str]) -> None:
        self._tasks, self._token = tasks, token

    def check_source(self, source: Path) -> None:
        """Check that the source is a path in the volume with base models.

        Raises:
            InvalidError: it is not, or there is no such volume.
        """
        claim = self._tasks.settings.models_claim
        if not claim:
            raise InvalidError.field(
                "/path",
                "this cluster has no volume with base models",
                hint="give a folder on your machine: `windlass base-model add NAME FOLDER` uploads it",
            )
        if not source.is_relative_to(MODELS_PATH) or ".." in source.parts:
            raise InvalidError.field(
                "/path",
                f"{source} is not below {MODELS_PATH}",
                hint=f"give the path in the volume {claim}, which is mounted at {MODELS_PATH}",
            )

    def start(self, name: str, request: ImportRequest) -> None:
        """Create the Job of the import. Raises as ``ResultTasks.start``."""
        program = ("python", "-P", "-m", "windlass_pipelines.train.import_model")
        self._tasks.start(name, program, request.model_dump_json(), self._token(name, request))

    def poll(self, name: str) -> ImportedModel | None:
        """Return the imported model, or None while it runs. Raises as the port says."""
        content = self._tasks.poll(name)
        return None if content is None else parse_import_result(content)

    def problem(self, name: str) -> str:
        """Return why its pod does not run now."""
        return self._tasks.problem(name)

    def delete(self, name: str) -> None:
        """Delete the Job with its pods, and the result."""
        self._tasks.delete(name)
