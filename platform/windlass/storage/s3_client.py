"""The connection to an S3 bucket, and the errors of S3 as those of Windlass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from windlass.domain.errors import ConflictError, InvalidError, NotFoundError, StorageFullError, UnavailableError
from windlass.kit.backoff import Backoff
from windlass.kit.ca_bundle import ca_bundle
from windlass.kit.circuit_breaker import CircuitBreaker
from windlass.settings import S3Settings

_NOT_FOUND = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})
_CONFLICTS = frozenset(
    {"412", "409", "PreconditionFailed", "ConditionalRequestConflict", "InvalidPart", "ObjectLocked"}
)
_FULL = frozenset({"507", "QuotaExceeded", "StorageFull", "XMinioStorageFull", "InsufficientStorage"})
_SERVER_FAILURES = frozenset({500, 502, 503, 504})
_PATH = "windlass_path"
"""Key of the context of a call, which its events share."""
_REFUSED = frozenset({"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"})


@dataclass(frozen=True)
class S3Bucket:
    """A bucket with the client that reaches it; a client is thread-safe."""

    client: Any
    name: str

    @classmethod
    def connect(
        cls,
        settings: S3Settings,
        *,
        public: bool = False,
        attempts: int = 5,
        reply_seconds: float = 30,
        breaker: CircuitBreaker | None = None,
    ) -> Self:
        """Return the bucket of the settings; nothing is sent.

        ``public``: with the URL for clients outside. ``attempts``: how often a request is sent. ``reply_seconds``: how
        long each attempt waits for the next bytes of its reply. ``breaker``: refuses requests at once while the store
        is away; they would occupy a thread for all their attempts.
        """
        endpoint = settings.public_endpoint if public else settings.endpoint
        # botocore retries throttling, 5xx and lost connections by exponential back-off with jitter.
        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=reply_seconds,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=32,
            # Checksums of its own as trailers are unknown to older servers; this package sends SHA-256 or MD5 itself.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        private = ca_bundle()
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
            config=config,
            # instead of the authorities that botocore contains; None: those
            verify=str(private) if private is not None else None,
        )
        if breaker is not None:
            _refuse_during_outages(client, breaker)
        return cls(client, settings.bucket)

    def check(self) -> None:
        """Check that the bucket can be reached.

        Raises:
            InvalidError: there is no such bucket, or the credentials are refused.
            UnavailableError: the store does not answer.
        """
        with translated_errors(f"bucket {self.name}"):
            try:
                self.client.head_bucket(Bucket=self.name)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status in (400, 401, 403, 404):
                    raise InvalidError(
                        f"the object store refuses bucket {self.name!r} with status {status}",
                        hint="check WINDLASS_S3_BUCKET, WINDLASS_S3_ACCESS_KEY_ID and WINDLASS_S3_SECRET_ACCESS_KEY",
                    ) from error
                raise

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def outage_breaker() -> CircuitBreaker:
    """Return the circuit breaker for all clients of one store: it lets a request through every few seconds."""
    return CircuitBreaker(Backoff(1.0, 5.0))


def _refuse_during_outages(client: Any, breaker: CircuitBreaker) -> None:
    """Register handlers of the client's events: before a call, and after its last attempt."""

    def before(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_PATH] = params["url_path"]
        if not breaker.allows_request():
            raise UnavailableError("the object store is away; it is tried again in a few seconds")

    def after(http_response: Any, context: dict[str, Any], **_: Any) -> None:
        if http_response.status_code in _SERVER_FAILURES:
            breaker.record_failure(context[_PATH])
        else:
            breaker.record_success()

    def after_error(exception: Exception, context: dict[str, Any], **_: Any) -> None:
        if isinstance(exception, BotoCoreError):
            breaker.record_failure(context[_PATH])

    client.meta.events.register("before-call.s3", before)
    client.meta.events.register("after-call.s3", after)
    client.meta.events.register("after-call-error.s3", after_error)


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Raise the errors of the S3 client as errors of Windlass. ``what`` is the object in the message.

    Raises:
        NotFoundError: there is no such object or upload.
        ConflictError: the object exists, or has changed.
        StorageFullError: no space is left.
        UnavailableError: the store is unreachable, fails, or refuses the credentials.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        names = {code, status}
        if code == "NoSuchBucket" or names & _REFUSED:
            raise UnavailableError(
                f"the object store refuses access to {what}: {code or status}",
                hint="check WINDLASS_S3_BUCKET and the credentials of the object store",
            ) from error
        if names & _NOT_FOUND:
            raise NotFoundError(f"no object {what}") from error
        if names & _CONFLICTS:
            raise ConflictError(f"{what} exists, or has changed; objects are immutable") from error
        if names & _FULL:
            raise StorageFullError(
                "the object store is full; the file was not stored", hint="free space, then send the file again"
            ) from error
        raise UnavailableError(f"the object store failed at {what}: {code or status}") from error
    except BotoCoreError as error:
        raise UnavailableError(f"the object store is unreachable: {type(error).__name__}") from error
