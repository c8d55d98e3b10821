"""A control plane trusts the private certificate authority of its object store and database, and its pods get it."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy.exc import OperationalError
from tests.factories.private_ca import PASSWORD_REFUSED, https_server, postgres_tls_server, write_certificate
from tests.fakes.kube_api import serve_kube_api

from windlass.db.engines import postgres_engine
from windlass.domain.errors import UnavailableError
from windlass.kit.ca_bundle import CA_BUNDLE_FILE, CA_BUNDLE_VARIABLE
from windlass.kube.jobs.task_jobs import TaskJobs
from windlass.kube.kinds import BATCH_JOB, POD, SECRET
from windlass.settings import S3Settings, TlsSettings
from windlass.storage.s3_client import S3Bucket


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "server.pem")


def check_bucket(endpoint: str) -> None:
    settings = S3Settings(
        bucket="objects", endpoint=endpoint, access_key_id="key", secret_access_key=SecretStr("secret")
    )
    bucket = S3Bucket.connect(settings)
    try:
        bucket.check()
    finally:
        bucket.close()


def test_the_object_store_is_verified_with_the_bundle(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with https_server(certificate) as url:
        with pytest.raises(UnavailableError):
            check_bucket(url)
        monkeypatch.setenv(CA_BUNDLE_VARIABLE, str(certificate))
        check_bucket(url)


def test_the_database_is_verified_with_the_bundle(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_certificate(tmp_path / "other.pem")
    with postgres_tls_server(certificate) as port:
        for bundle, problem in ((other, "certificate verify failed"), (certificate, PASSWORD_REFUSED)):
            monkeypatch.setenv(CA_BUNDLE_VARIABLE, str(bundle))
            engine = postgres_engine(f"postgresql+psycopg://user:secret@127.0.0.1:{port}/db?sslmode=verify-full")
            with pytest.raises(OperationalError, match=problem):
                engine.connect()
            engine.dispose()


def test_the_secret_of_a_pod_has_the_bundle(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CA_BUNDLE_VARIABLE, str(certificate))
    metadata = {"name": "job-1-r1", "namespace": "windlass-system"}
    manifest = {"apiVersion": BATCH_JOB.api_version, "kind": BATCH_JOB.kind, "metadata": metadata}
    with serve_kube_api([BATCH_JOB, POD, SECRET]) as server:
        tasks = TaskJobs(server.client(), "windlass-system")
        tasks.create(manifest, {"context.json": "{}"})
        [secret] = server.api.of_kind(SECRET)
        tasks.close()
    assert secret["stringData"] == {"context.json": "{}", CA_BUNDLE_FILE: certificate.read_text("ascii")}


def test_a_file_without_certificates_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing.pem", Path(__file__)):
        monkeypatch.setenv(CA_BUNDLE_VARIABLE, str(path))
        with pytest.raises(ValidationError, match="cannot be read as certificates in PEM format"):
            TlsSettings()
