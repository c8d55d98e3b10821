"""One key, one object (invariant I2): a repeated request finds what the first one made."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from windlass.domain.errors import IdempotencyMismatchError
from windlass.domain.records import Replay
from windlass.ports import ProjectData


@dataclass(frozen=True)
class Idempotency:
    """The idempotency key of a request, with the route and a hash of the body that it came with."""

    route: str
    key: str
    body_hash: str

    @classmethod
    def of(cls, route: str, key: str, body: bytes) -> "Idempotency":
        """Bind a key to its route and body."""
        return cls(route, key, hashlib.sha256(body).hexdigest())

    def subject(self, inside: ProjectData) -> str | None:
        """Return the id that this key made before, None for a new key.

        Raises:
            IdempotencyMismatchError: it was used with another body.
        """
        known = inside.replays.find(route=self.route, key=self.key)
        if known is None:
            return None
        if known.body_hash != self.body_hash:
            raise IdempotencyMismatchError(
                "this Idempotency-Key was used with another body", hint="send a new key with a new request"
            )
        return known.subject

    def remember(self, inside: ProjectData, project: str, subject: str, now: datetime) -> None:
        """Record, in the transaction that makes it, which object of the project the key stands for."""
        inside.replays.add(
            Replay(
                project=project,
                route=self.route,
                key=self.key,
                body_hash=self.body_hash,
                subject=subject,
                created_at=now,
            )
        )
