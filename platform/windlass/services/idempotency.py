"""Idempotency keys: a repeated request returns the object that the first one created (invariant I2)."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.errors import IdempotencyMismatchError
from windlass.domain.records import IdempotencyRecord
from windlass.ports import ProjectData, ReadProjectData


@dataclass(frozen=True)
class Idempotency:
    """The idempotency key of a request with its route and a hash of its body."""

    route: str
    key: str
    body_hash: str

    @classmethod
    def of(cls, route: str, key: str, body: bytes) -> "Idempotency":
        """Bind a key to a route and a body."""
        return cls(route, key, hashlib.sha256(body).hexdigest())

    def find_subject(self, repos: ReadProjectData) -> str | None:
        """Return the id of the object that was created with this key, None for a new key.

        Raises:
            IdempotencyMismatchError: the key was used with another body.
        """
        record = repos.idempotency_records.find({"route": self.route, "key": self.key})
        if record is None:
            return None
        if record.body_hash != self.body_hash:
            raise IdempotencyMismatchError(
                "this Idempotency-Key was used with another body", hint="send a new key with a new request"
            )
        return record.subject

    def store(self, repos: ProjectData, project: str, subject: str, now: datetime) -> None:
        """Store the object's id for this key, in the transaction that creates the object."""
        repos.idempotency_records.add(
            IdempotencyRecord(
                project=project,
                route=self.route,
                key=self.key,
                body_hash=self.body_hash,
                subject=subject,
                created_at=now,
            )
        )
