"""Narrow signed tokens for processes that have no run: data tasks, imports and model servers (ADR 0043).

A token is ``wlt_<claims>.<HMAC-SHA256 under the pepper>``. It states which prefixes of the object store it may read and
write, and when it expires. The server stores none, so a token cannot be revoked: it is useless once its files are gone.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from windlass.domain.datasets import DataRequest
from windlass.domain.errors import UnauthenticatedError
from windlass.domain.models import ImportRequest
from windlass.domain.storage_layout import task_result_prefix
from windlass.domain.transfers import TransferGrant
from windlass.ports import Clock, ObjectStore
from windlass.services.secrets import SecretHasher

TOKEN_PREFIX = "wlt_"  # noqa: S105 - how a token begins, no secret
TASK_LIFETIME = timedelta(days=2)
"""Of the token of a data task or an import."""
_MODEL_PERIOD = timedelta(days=30)
_MAX_TOKEN = 1 << 16


class _Claims(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    grant: TransferGrant
    expires_at: datetime


@dataclass(frozen=True)
class TransferTokens:
    """Signs and verifies tokens."""

    hasher: SecretHasher
    clock: Clock
    store: ObjectStore

    def for_data_task(self, version: str, request: DataRequest) -> str:
        """Return the token of a data task: it reads inputs and tokenizer, and writes the version and its result."""
        key = self.store.key
        uris = [uri for uri, _ in request.inputs] + ([request.tokenizer] if request.tokenizer else [])
        written = (key(request.output), task_result_prefix(version))
        grant = TransferGrant(
            subject=version, read=(*map(key, uris), *written), write=written, delete=(key(request.output),)
        )
        return self.sign(grant, self.clock.now() + TASK_LIFETIME)

    def for_import(self, model: str, request: ImportRequest) -> str:
        """Return the token of an import: it reads the uploaded files, and writes the model and its result."""
        written = (self.store.key(request.target), task_result_prefix(model))
        staged = (self.store.key(file.uri) for file in request.files)
        grant = TransferGrant(subject=model, read=(*staged, *written), write=written)
        return self.sign(grant, self.clock.now() + TASK_LIFETIME)

    def for_model_server(self, endpoint: str, artifacts: tuple[str, ...]) -> str:
        """Return the token of an endpoint's model servers: it reads the artifacts at these URIs.

        It is the same for a period of 30 days and valid for the next one too, so that repeated calls change no Secret.
        """
        keys = tuple(sorted(map(self.store.key, artifacts)))
        period = int(self.clock.now().timestamp() // _MODEL_PERIOD.total_seconds())
        expires_at = datetime.fromtimestamp((period + 2) * _MODEL_PERIOD.total_seconds(), self.clock.now().tzinfo)
        return self.sign(TransferGrant(subject=endpoint, read=keys), expires_at)

    def sign(self, grant: TransferGrant, expires_at: datetime) -> str:
        """Return a token with these claims."""
        claims = _Claims(grant=grant, expires_at=expires_at).model_dump_json().encode()
        payload = base64.urlsafe_b64encode(claims).decode().rstrip("=")
        return f"{TOKEN_PREFIX}{payload}.{self.hasher.transfer_signature(payload)}"

    def verify(self, token: str) -> TransferGrant:
        """Return the grant of a token.

        Raises:
            UnauthenticatedError: it was not signed by this control plane, or has expired.
        """
        invalid = UnauthenticatedError("the transfer token is not valid, or has expired")
        payload, _, signature = token.removeprefix(TOKEN_PREFIX).rpartition(".")
        if not token.startswith(TOKEN_PREFIX) or len(token) > _MAX_TOKEN or not payload.isascii():
            raise invalid
        if not hmac.compare_digest(self.hasher.transfer_signature(payload).encode(), signature.encode()):
            raise invalid
        try:
            decoded = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
            claims = _Claims.model_validate_json(decoded)
        except (binascii.Error, ValidationError) as error:  # signed with another version of the claims
            raise invalid from error
        if claims.expires_at <= self.clock.now():
            raise invalid
        return claims.grant
