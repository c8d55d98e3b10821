"""A replica fetches its artifact by URI, and loads only the version that the control plane named."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.serve.tiny_artifacts import served_app

from windlass.domain.endpoints import ServedApp
from windlass.domain.specs import Task
from windlass_pipelines.serve.artifact import ModelLoadError

# Ray declares its own pydantic models in a way that pydantic 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def load(app: ServedApp) -> Any:
    from windlass_pipelines.serve.replica import load_app

    return load_app(app, 1, ())


def test_a_published_artifact_is_loaded(classifier_folder: Path) -> None:
    loaded = load(served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION))
    assert type(loaded).__name__ == "TextClassificationApp"


def test_an_artifact_that_is_not_published_is_refused(classifier_folder: Path, tmp_path: Path) -> None:
    missing = (tmp_path / "nothing").as_uri()
    with pytest.raises(ModelLoadError, match=f"no folder is published at {missing}"):
        load(served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION, artifact_uri=missing))


def test_another_version_at_the_same_uri_is_refused(classifier_folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="expected 0000"):
        load(served_app("a", classifier_folder, Task.TEXT_CLASSIFICATION, digest="0" * 64))
