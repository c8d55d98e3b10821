"""Hashes of secrets under the server's pepper."""

import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SecretHasher:
    """Computes HMAC-SHA256 under the pepper, which is stored outside of the database."""

    pepper: bytes = field(repr=False)

    def hash(self, secret: str) -> str:
        """Return the hash of an API key's secret, which has enough entropy for a fast hash."""
        return self._hmac(secret.encode())

    def run_token(self, run: str) -> str:
        """Return the token of a run. It is derived from the run's id, so it is stable and not stored."""
        return "wlr_" + self._hmac(b"run:" + run.encode())

    def warm_trainer_token(self, project: str, name: str) -> str:
        """Return the token of a warm trainer of a project (by its name). It is derived and not stored."""
        return "wlw_" + self._hmac(f"warm-trainer:{project}/{name}".encode())

    def transfer_signature(self, payload: str) -> str:
        """Return the signature of a transfer token."""
        return self._hmac(b"transfer:" + payload.encode())

    def model_server_key(self, app: str) -> str:
        """Return the key that the model servers of an application accept. It is derived and not stored."""
        return "wlm_" + self._hmac(b"model-server:" + app.encode())

    def sign_in_signature(self, payload: str) -> str:
        """Return the signature of the cookie that a sign-in leaves in the browser."""
        return self._hmac(b"sign-in:" + payload.encode())

    def csrf_token(self, session: str) -> str:
        """Return the token that requests of a browser's session send in a header. It is derived and not stored."""
        return self._hmac(b"csrf:" + session.encode())

    def erasure_key(self, project: str, key: str) -> str:
        """Return the hash of a search key of an erasure; it differs between projects."""
        return self._hmac(f"erasure:{project}:{key}".encode())

    def control_plane_id(self) -> str:
        """Return the id of this control plane, which labels its objects in a cluster.

        All replicas have the same one, also after their database was restored; another control plane has another one.
        """
        return self._hmac(b"control-plane:id")[:16]

    def _hmac(self, message: bytes) -> str:
        return hmac.new(self.pepper, message, hashlib.sha256).hexdigest()
