"""A real S3 server on this machine: versitygw over a folder, built from its Go module and cached.

It checks signatures, presigned URLs, checksums and conditional writes, as a mock does not. The fixture ``s3_server`` is
for the whole session; a test gets a bucket of its own.
"""

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.testcluster import versions
from tests.testcluster.builds import build_all
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import default_cache

from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket
from windlass.storage.s3_signer import S3UrlSigner

_ACCESS, _SECRET, _REGION = "test-access-key", "test-secret-key", "us-east-1"
_START_SECONDS = 30.0
SMALL_PARTS = 5 << 20
"""The smallest parts that S3 accepts."""


@dataclass
class S3Server:
    """A server that can be stopped and started again on the same port, with the same objects."""

    binary: Path
    root: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        (self.root / "objects").mkdir(parents=True, exist_ok=True)
        (self.root / "metadata").mkdir(exist_ok=True)
        command: list[str | Path] = [
            *(self.binary, "--access", _ACCESS, "--secret", _SECRET, "--region", _REGION),
            *("--port", f"127.0.0.1:{self.port}", "--quiet", "--health", "/health"),
            # files instead of extended attributes, which not every file system has
            *("posix", "--sidecar", self.root / "metadata", self.root / "objects"),
        ]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail(f"versitygw did not start:\n{(self.root / 'log').read_text()[-2000:]}", pytrace=False)

    def stop(self) -> None:
        """Kill it; what was acknowledged is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def settings(self, bucket: str, *, public: bool = False) -> S3Settings:
        """Return the settings of a control plane that uses a bucket."""
        return S3Settings(
            bucket=bucket,
            endpoint=self.url,
            public_endpoint=self.url if public else "",
            region=_REGION,
            access_key_id=_ACCESS,
            secret_access_key=SecretStr(_SECRET),
            part_bytes=SMALL_PARTS,
        )

    def new_bucket(self) -> S3Bucket:
        """Create an empty bucket."""
        bucket = S3Bucket.connect(self.settings(f"test-{secrets.token_hex(6)}"))
        bucket.client.create_bucket(Bucket=bucket.name)
        return bucket

    def new_store(self) -> S3ObjectStore:
        """Return a store in an empty bucket."""
        return S3ObjectStore(self.new_bucket(), SMALL_PARTS)


def signer(
    store: S3ObjectStore, *, public: bool = False, seconds: int = 3600, part_bytes: int = SMALL_PARTS
) -> S3UrlSigner:
    """Return what signs requests for a store."""
    return S3UrlSigner(store, store.bucket if public else None, seconds, part_bytes)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server. The first one of a machine is built, in about two minutes; that needs Go."""
    try:
        built = build_all([versions.read()["versitygw"]], default_cache(), lambda _step, _seconds: None)
    except LocalClusterError as error:
        pytest.skip(f"no S3 server: {error}")  # in CI a skip is a failure
    server = S3Server(built["versitygw"].binary("versitygw"), tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.root)
