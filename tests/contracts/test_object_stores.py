"""Runs the object store contract on a local folder and on a real S3 server, in clear and encrypted."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.contracts.object_store import ObjectStoreContract
from tests.factories.s3_server import S3Server
from tests.fakes.encryption import FixedDataKeys

from windlass.ports import ObjectStore
from windlass.storage.local import LocalObjectStore


class TestLocalObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return LocalObjectStore(tmp_path / "a store")


@pytest.mark.s3
class TestS3ObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_server: S3Server) -> ObjectStore:
        return s3_server.new_store()


@pytest.mark.s3
class TestEncryptedS3ObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, s3_server: S3Server) -> ObjectStore:
        return replace(s3_server.new_store(), data_keys=FixedDataKeys())
