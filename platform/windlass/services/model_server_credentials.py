"""Credentials of the model servers of a cluster, derived from the pepper: every replica of the API knows them."""

from dataclasses import dataclass

from windlass.services.secrets import SecretHasher
from windlass.services.transfer_tokens import TransferTokens


@dataclass(frozen=True)
class ModelServerCredentials:
    """Implements ``windlass.kube.serving.backend.ServingCredentials``."""

    hasher: SecretHasher
    tokens: TransferTokens

    def authorization(self, key: str) -> str:
        """Return the header that the model servers of an application require."""
        return f"Bearer {self.hasher.model_server_key(key)}"

    def token(self, endpoint: str, artifact_uri: str) -> str:
        """Return the token with which replicas of an endpoint fetch an artifact."""
        return self.tokens.for_model_server(endpoint, (artifact_uri,))
