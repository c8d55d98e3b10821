"""The embedded server with PostgreSQL and an S3 server: the whole job, and a restart in the middle of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.servers import ServerProcess, server
from tests.factories.postgres_server import postgres_server
from tests.factories.s3_server import S3Server
from tests.factories.small_jobs import SPEC, ensure_test_data
from tests.factories.tiny_models import tiny_encoder

pytestmark = [pytest.mark.s3, pytest.mark.processes, pytest.mark.timeout(600)]


@pytest.fixture
def running(tmp_path: Path, s3_server: S3Server) -> Iterator[ServerProcess]:
    bucket = s3_server.settings(s3_server.new_bucket().name)
    settings = {
        "WINDLASS_DATABASE_URL": postgres_server().new_database(migrated=False),
        "WINDLASS_S3_BUCKET": bucket.bucket,
        "WINDLASS_S3_ENDPOINT": bucket.endpoint,
        "WINDLASS_S3_ACCESS_KEY_ID": bucket.access_key_id,
        "WINDLASS_S3_SECRET_ACCESS_KEY": bucket.secret_access_key.get_secret_value(),
    }
    with server(tmp_path / "home", (), **settings) as process:
        yield process


def test_a_job_trains_and_serves_and_survives_a_kill_of_the_server(running: ServerProcess, tmp_path: Path) -> None:
    client = running.start()
    ensure_test_data(client, tiny_encoder(tmp_path / "tiny"), tmp_path)
    job = client.jobs.create({**SPEC, "model": "topics"})
    running.wait_until(lambda: client.jobs.get(job.id).state == "running", "the job trains")
    running.kill()
    client = running.start()
    done = client.jobs.wait(job.id, timeout=240)
    assert done.state == "succeeded", done.reason
    endpoint = client.endpoints.create("topics", {"traffic": [{"model": "topics", "version": 1, "weight": 100}]})
    client.endpoints.wait(endpoint.name, timeout=240)
    [prediction] = client.endpoints.predict("topics", ["good"])
    assert prediction.label
    files = {path.name for path in running.home.rglob("*") if path.is_file()}
    assert not {"windlass.db", "train.jsonl"} & files, "the data is in the services"
    assert (running.home / "models").is_dir()
