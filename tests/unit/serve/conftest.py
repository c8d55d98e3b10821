"""Session-scoped tiny artifacts; a test that modifies one copies it first."""

from pathlib import Path

import pytest
from tests.unit.serve.tiny_artifacts import write_chat, write_classifier


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat(tmp_path_factory.mktemp("chat"))
