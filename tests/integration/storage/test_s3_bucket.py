"""A bucket that cannot be used is reported when the control plane starts."""

import pytest
from pydantic import SecretStr
from tests.factories.s3_server import S3Server

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket

pytestmark = pytest.mark.s3


def changed(settings: S3Settings, **update: object) -> S3Bucket:
    return S3Bucket.connect(settings.model_copy(update=update))


def test_a_bucket_is_checked(s3_server: S3Server) -> None:
    settings = s3_server.settings(s3_server.new_bucket().name)
    S3Bucket.connect(settings).check()
    for bucket in (
        changed(settings, bucket="absent"),
        changed(settings, secret_access_key=SecretStr("wrong")),
        changed(settings, access_key_id="unknown"),
    ):
        with pytest.raises(InvalidError, match="refuses bucket") as refused:
            bucket.check()
        assert "WINDLASS_S3_BUCKET" in refused.value.hint
        assert "wrong" not in str(refused.value) + refused.value.hint


def test_refused_credentials_are_no_missing_object(s3_server: S3Server) -> None:
    """A store that answered "not found" here would let the control plane write an object again."""
    settings = s3_server.settings(s3_server.new_bucket().name)
    store = S3ObjectStore(changed(settings, secret_access_key=SecretStr("wrong")))
    for operation in (store.size, store.open, store.total_bytes, store.delete):
        with pytest.raises(UnavailableError, match="refuses access"):
            operation("a/file")
