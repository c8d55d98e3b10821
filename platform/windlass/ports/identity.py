"""The identity provider: who issues the tokens of users and machines."""

from typing import Protocol

from windlass.domain.identity import IdentityClaims
from windlass.domain.jobs import DomainModel


class DeviceClient(DomainModel):
    """What a program needs for the device flow (RFC 8628)."""

    client_id: str
    device_authorization_endpoint: str
    token_endpoint: str
    scope: str


class IdentityProvider(Protocol):
    """A provider that conforms to OpenID Connect. Its metadata and keys come from the configured issuer only."""

    @property
    def issuer(self) -> str:
        """The URL of the issuer."""
        ...

    def sign_in_url(self, *, state: str, nonce: str, code_challenge: str) -> str:
        """Return the URL of the provider to which a browser is sent, for an authorization code with PKCE (S256).

        Raises:
            UnavailableError: the provider does not answer.
        """
        ...

    def redeem_code(self, code: str, *, code_verifier: str, nonce: str) -> IdentityClaims:
        """Exchange an authorization code for an ID token, and return what it says.

        Raises:
            UnauthenticatedError: the provider refuses the code, or the token is not valid.
            UnavailableError: the provider does not answer.
        """
        ...

    def verify_id_token(self, token: str) -> IdentityClaims:
        """Verify an ID token that the provider issued to a program of this client.

        Raises:
            UnauthenticatedError: it is not valid.
            UnavailableError: the provider does not answer.
        """
        ...

    def verify_access_token(self, token: str) -> IdentityClaims:
        """Verify an access token in JWT form whose audience is this API.

        Raises:
            UnauthenticatedError: it is not valid, or this server accepts none.
            UnavailableError: the provider does not answer.
        """
        ...

    def device_client(self) -> DeviceClient | None:
        """Return what a program needs for the device flow; None: the provider does not support it.

        Raises:
            UnavailableError: the provider does not answer.
        """
        ...
