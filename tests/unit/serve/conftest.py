"""Each tiny artifact is written once per session; a test that changes one copies it."""

from pathlib import Path

import pytest
from tests.unit.serve.tiny_artifacts import write_chat, write_classifier


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat(tmp_path_factory.mktemp("chat"))
