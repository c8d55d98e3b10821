"""``ports.IdentityProvider`` for every provider that conforms to OpenID Connect Core 1.0.

PyJWT verifies signatures and times; this module requires what the protocol says about the claims.
"""

import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jwt
from jwt.exceptions import PyJWTError

from windlass.domain.errors import InvalidError, UnauthenticatedError, UnavailableError
from windlass.domain.identity import IdentityClaims
from windlass.identity.metadata import IssuerMetadata, read_json, require_secure
from windlass.ports.identity import DeviceClient

_LEEWAY_SECONDS = 30
_MAX_TOKEN = 1 << 15
_MAX_GROUPS = 1000
_MAX_EXCHANGE_SECONDS = 600
_OK, _SERVER_ERROR = 200, 500
_ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


@dataclass(frozen=True)
class OidcClient:
    """How this server is registered at its identity provider.

    Args:
        issuer: URL of the issuer, as in the ``iss`` claim.
        client_id: id of the client.
        client_secret: empty for a public client.
        redirect_uri: where the provider sends browsers back; it is registered there.
        scope: scopes of a sign-in, separated by blanks.
        device_client_id: id of the public client of programs on users' machines; empty: the client above.
        audience: ``aud`` of access tokens for this API; empty: access tokens are refused.
        name_claim: claim that becomes the user's name.
        groups_claim: claim that lists the user's groups.
        algorithms: accepted signature algorithms.
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    redirect_uri: str = ""
    scope: str = "openid profile email"
    device_client_id: str = ""
    audience: str = ""
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    algorithms: Sequence[str] = ("RS256", "ES256")

    def __post_init__(self) -> None:
        require_secure(self.issuer, "the issuer")
        if unsafe := sorted(set(self.algorithms) - _ASYMMETRIC):
            raise InvalidError(
                f"the signature algorithm {unsafe[0]} is not accepted",
                hint=f"use one of {', '.join(sorted(_ASYMMETRIC))}",
            )
        # An ID token proves to a client who the user is; it is no permission to call the API.
        if self.audience and self.audience in {self.client_id, self.device_client_id}:
            raise InvalidError(
                "the audience of access tokens is the id of a client, as in ID tokens",
                hint="register this API as an audience (or resource) of its own at the provider",
            )


@dataclass(frozen=True)
class OidcProvider:
    """``ports.IdentityProvider`` of one issuer."""

    client: OidcClient
    metadata: IssuerMetadata

    @property
    def issuer(self) -> str:
        """The URL of the issuer."""
        return self.client.issuer

    def sign_in_url(self, *, state: str, nonce: str, code_challenge: str) -> str:
        query = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": self.client.redirect_uri,
            "scope": self.client.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
        }
        url = self._endpoint("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"

    def redeem_code(self, code: str, *, code_verifier: str, nonce: str) -> IdentityClaims:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.client.redirect_uri,
            "code_verifier": code_verifier,
        }
        options: dict[str, Any] = {"data": form}
        if self.client.client_secret:
            options["auth"] = (self.client.client_id, self.client.client_secret)
        else:
            form["client_id"] = self.client.client_id
        status, reply = read_json(self.metadata.http, "POST", self._endpoint("token_endpoint"), **options)
        if status >= _SERVER_ERROR:
            raise UnavailableError(f"the identity provider answers {status}")
        if status != _OK or not isinstance(reply.get("id_token"), str):
            raise UnauthenticatedError(
                f"the identity provider refuses the sign-in: {str(reply.get('error', status))[:100]}",
                hint="sign in again",
            )
        claims = self._verify_id_token(reply["id_token"], self.client.client_id)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _invalid("its nonce is another one")
        return self._identity(claims)

    def verify_id_token(self, token: str) -> IdentityClaims:
        claims = self._verify_id_token(token, self._device_client_id)
        # It was issued a moment ago, at the end of the device flow; an old one may have come out of a log.
        if time.time() - float(claims["iat"]) > _MAX_EXCHANGE_SECONDS:
            raise _invalid("it is too old")
        return self._identity(claims)

    def verify_access_token(self, token: str) -> IdentityClaims:
        if not self.client.audience:
            raise _invalid("this server accepts no access tokens")
        return self._identity(self._verify(token, self.client.audience), fallback="sub")

    def device_client(self) -> DeviceClient | None:
        url = self.metadata.endpoint("device_authorization_endpoint")
        if not url:
            return None
        return DeviceClient(
            client_id=self._device_client_id,
            device_authorization_endpoint=url,
            token_endpoint=self._endpoint("token_endpoint"),
            scope=self.client.scope,
        )

    @property
    def _device_client_id(self) -> str:
        return self.client.device_client_id or self.client.client_id

    def _verify_id_token(self, token: str, client_id: str) -> Mapping[str, Any]:
        claims = self._verify(token, client_id)
        if claims.get("azp", client_id) != client_id:
            raise _invalid("it was issued to another client")
        return claims

    def _endpoint(self, name: str) -> str:
        url = self.metadata.endpoint(name)
        if not url:
            raise UnavailableError(f"the identity provider has no {name}")
        return url

    def _verify(self, token: str, audience: str) -> Mapping[str, Any]:
        """Verify signature, issuer, audience and times of a token."""
        if len(token) > _MAX_TOKEN:
            raise _invalid("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError as error:
            raise _invalid("it is malformed") from error
        if header.get("alg") not in self.client.algorithms or "crit" in header:
            raise _invalid("its algorithm is not accepted")
        # Keys come from the configured issuer, whatever jku, jwk and x5u of the header say.
        key = self.metadata.key(str(header.get("kid", "")))
        if key is None:
            raise _invalid("its key is unknown")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(self.client.algorithms),
                audience=audience,
                issuer=self.client.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": False},
            )
        except (PyJWTError, ValueError, TypeError) as error:
            raise _invalid(type(error).__name__.removesuffix("Error")) from error
        return claims

    def _identity(self, claims: Mapping[str, Any], *, fallback: str = "") -> IdentityClaims:
        """Return the user of verified claims.

        An address counts only if the provider has verified it: at some providers, users enter any address.
        """
        name = claims.get(self.client.name_claim) or (claims.get(fallback) if fallback else None)
        if not isinstance(name, str) or not name:
            raise _invalid(f"it has no claim {self.client.name_claim}")
        if self.client.name_claim == "email" and claims.get("email_verified") is not True:
            raise _invalid("its email address is not verified")
        groups = claims.get(self.client.groups_claim, [])
        groups = [groups] if isinstance(groups, str) else groups
        if not isinstance(groups, list) or len(groups) > _MAX_GROUPS:
            raise _invalid(f"its claim {self.client.groups_claim} is no list of at most {_MAX_GROUPS} groups")
        display_name = claims.get("name")
        return IdentityClaims(
            issuer=self.client.issuer,
            subject=str(claims["sub"]),
            name=name,
            display_name=display_name if isinstance(display_name, str) else "",
            groups=tuple(sorted({group for group in groups if isinstance(group, str)})),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
        )


def _invalid(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token of the identity provider is not valid: {why}", hint="sign in again")
