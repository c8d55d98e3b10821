"""The real control plane over HTTP with a real S3 bucket, for processes that transfer files."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from tests.factories.http_servers import serve
from tests.factories.s3_server import SMALL_PARTS, S3Server, signer
from tests.fakes.encryption import LateDataKeys
from tests.fakes.harness import ControlPlaneHarness

from windlass.domain.transfers import TransferGrant
from windlass.ports import DataKeys, MasterKeys
from windlass.runtime.transfers import TransferClient
from windlass.services.transfer_tokens import TransferTokens
from windlass.storage.presigned_transfer import PresignedTransfer
from windlass.storage.s3 import S3ObjectStore
from windlass.wire.runs import TRANSFERS_PATH


@dataclass
class TransferServer:
    """A control plane whose object store is a bucket. ``outage`` and ``restore`` interrupt the control plane."""

    home: Path
    s3: S3Server
    url_seconds: int = 3600
    public: bool = False
    part_bytes: int = SMALL_PARTS
    data_keys: DataKeys | None = None
    """The keys of the store; None: those of the projects, if there are master keys."""
    masters: MasterKeys | None = None
    store: S3ObjectStore = field(init=False)
    harness: ControlPlaneHarness = field(init=False)
    _served: ExitStack = field(default_factory=ExitStack, init=False)
    _port: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        late = LateDataKeys()
        self.store = replace(self.s3.new_store(), data_keys=self.data_keys or late)
        self.harness = ControlPlaneHarness(
            self.home,
            object_store=self.store,
            signer=signer(self.store, public=self.public, seconds=self.url_seconds, part_bytes=self.part_bytes),
            masters=self.masters,
        )
        late.keys = self.harness.data_keys
        self.restore()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def restore(self) -> None:
        """Listen, on the previous port if there was one."""
        self._port = self._served.enter_context(serve(self.harness.app, self._port))

    def outage(self) -> None:
        """Refuse connections."""
        self._served.close()

    def close(self) -> None:
        self.outage()
        self.harness.close()
        self.store.bucket.close()

    def token(self, prefix: str = "projects/p", **grant: tuple[str, ...]) -> str:
        """Return a token for everything below a prefix, or for other grants."""
        every = {"read": (prefix,), "write": (prefix,), "delete": (prefix,)}
        tokens = TransferTokens(self.harness.deps.hasher, self.harness.clock, self.store)
        granted = TransferGrant(subject="test", **{**every, **grant})
        return tokens.sign(granted, self.harness.clock.now() + timedelta(hours=1))

    def client(self, token: str | None = None, *, retry_seconds: float = 30.0) -> TransferClient:
        secret = token or self.token()
        return TransferClient(lambda: self.url + TRANSFERS_PATH, lambda: secret, retry_seconds)

    def transfer(self, token: str | None = None, *, retry_seconds: float = 30.0) -> PresignedTransfer:
        """Return the transfer of another process."""
        return PresignedTransfer(lambda: self.client(token, retry_seconds=retry_seconds))
