"""The S3 server of the storage tests."""

from tests.factories.s3_server import s3_server

__all__ = ["s3_server"]
