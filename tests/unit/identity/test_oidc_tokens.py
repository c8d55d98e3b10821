"""Tokens that no provider issued are refused, and those that it issued for something else."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from windlass.domain.errors import InvalidError, UnauthenticatedError, UnavailableError
from windlass.identity.metadata import IssuerMetadata, require_secure
from windlass.identity.oidc import OidcClient, OidcProvider

ISSUER, CLIENT, AUDIENCE = "https://idp.example", "windlass", "windlass-api"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def encoded(data: object) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def public_jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return {**jwk, "kid": kid, "use": "sig"}


@dataclass
class Issuer:
    """The HTTP side of an issuer, and the tokens that it signs."""

    document: dict[str, Any] = field(
        default_factory=lambda: {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/keys",
            "token_endpoint": f"{ISSUER}/token",
            "authorization_endpoint": f"{ISSUER}/authorize",
        }
    )
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public_jwk(KEY, "rsa"), public_jwk(CURVE, "ec")])
    status: int = 200
    requests: list[str] = field(default_factory=list)
    id_token: str = ""

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = str(request.url).removeprefix(ISSUER)
        self.requests.append(path)
        bodies = {
            "/.well-known/openid-configuration": self.document,
            "/keys": {"keys": self.keys},
            "/token": {"id_token": self.id_token},
        }
        return httpx2.Response(self.status, json=bodies[path], headers={"location": "https://evil.example/keys"})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "s-1",
            "iat": now,
            "exp": now + 300,
            "preferred_username": "ada",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, **changes: Any) -> str:
        return jwt.encode(self.claims(**changes), KEY, "RS256", headers={"kid": "rsa"})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def provider(issuer: Issuer) -> Iterator[OidcProvider]:
    with httpx2.Client(transport=httpx2.MockTransport(issuer.answer)) as http:
        yield OidcProvider(
            OidcClient(issuer=ISSUER, client_id=CLIENT, audience=AUDIENCE, redirect_uri="https://w.example/back"),
            IssuerMetadata(ISSUER, http),
        )


def test_tokens_of_the_issuer_are_accepted(issuer: Issuer, provider: OidcProvider) -> None:
    identity = provider.verify_access_token(issuer.token(groups=["b", "a", "b"], name="Ada"))
    assert (identity.name, identity.groups, identity.display_name) == ("ada", ("a", "b"), "Ada")
    curve = jwt.encode(issuer.claims(aud=["other", AUDIENCE]), CURVE, "ES256", headers={"kid": "ec"})
    assert provider.verify_access_token(curve).subject == "s-1"
    assert provider.verify_access_token(issuer.token(preferred_username=None)).name == "s-1", "a machine has a subject"
    assert issuer.requests.count("/keys") == 1


def hmac_with_the_public_key(issuer: Issuer) -> str:
    pem = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = f"{encoded({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'})}.{encoded(issuer.claims())}"
    return f"{body}.{encoded(hmac.new(pem, body.encode(), hashlib.sha256).digest())}"


def unsigned(issuer: Issuer) -> str:
    return f"{encoded({'alg': 'none', 'kid': 'rsa'})}.{encoded(issuer.claims())}."


def with_header(**header: Any) -> Callable[[Issuer], str]:
    return lambda issuer: jwt.encode(issuer.claims(), OTHER, "RS256", headers={"kid": "rsa", **header})


def cut(issuer: Issuer) -> str:
    return issuer.token().rpartition(".")[0] + "."


def critical(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), KEY, "RS256", headers={"kid": "rsa", "crit": ["x"], "x": 1})


def other_key_type(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), KEY, "RS256", headers={"kid": "ec"})


FORGED: dict[str, Callable[[Issuer], str]] = {
    "signed with another key": with_header(),
    "brings its key": with_header(jwk=public_jwk(OTHER, "rsa")),
    "names another place of keys": with_header(jku="https://evil.example/keys", x5u="https://evil.example/cert"),
    "unknown key": with_header(kid="unknown"),
    "path as key": with_header(kid="../../dev/null"),
    "signed with the public key": hmac_with_the_public_key,
    "not signed": unsigned,
    "signature cut": cut,
    "critical extension": critical,
    "key of another type": other_key_type,
    "not a token": lambda _: "a.b.c",
    "empty parts": lambda _: "..",
    "very long": lambda issuer: issuer.token(filler="x" * (1 << 15)),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(issuer: Issuer, provider: OidcProvider, forge: Callable[[Issuer], str]) -> None:
    with pytest.raises(UnauthenticatedError):
        provider.verify_access_token(forge(issuer))
    assert all(path in {"/.well-known/openid-configuration", "/keys"} for path in issuer.requests)


UNFIT: dict[str, dict[str, Any]] = {
    "of another issuer": {"iss": "https://evil.example"},
    "for another API": {"aud": "another"},
    "for the client": {"aud": CLIENT},
    "expired": {"exp": int(time.time()) - 60},
    "of the future": {"iat": int(time.time()) + 3600},
    "not valid yet": {"nbf": int(time.time()) + 3600},
    "without an end": {"exp": None},
    "without a time": {"iat": None},
    "without an audience": {"aud": None},
    "without a subject": {"sub": None},
    "end as text": {"exp": "tomorrow"},
    "groups of another form": {"groups": {"admin": True}},
    "too many groups": {"groups": ["g"] * 1001},
    "name of another form": {"preferred_username": ["ada"]},
}


@pytest.mark.parametrize("changes", UNFIT.values(), ids=UNFIT)
def test_an_unfit_token_is_refused(issuer: Issuer, provider: OidcProvider, changes: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticatedError):
        provider.verify_access_token(issuer.token(**changes))


def test_an_id_token_is_for_its_client_and_its_sign_in(issuer: Issuer, provider: OidcProvider) -> None:
    issuer.id_token = issuer.token(aud=CLIENT, nonce="n-1")
    assert provider.redeem_code("code", code_verifier="v", nonce="n-1").name == "ada"
    for token, nonce in (
        (issuer.id_token, "n-2"),
        (issuer.token(aud=CLIENT), "n-1"),
        (issuer.token(aud=CLIENT, nonce=["n-1"]), "n-1"),
        (issuer.token(aud=AUDIENCE, nonce="n-1"), "n-1"),
        (issuer.token(aud=CLIENT, azp="another", nonce="n-1"), "n-1"),
        (issuer.token(aud=CLIENT, nonce="n-1", preferred_username=None), "n-1"),
    ):
        issuer.id_token = token
        with pytest.raises(UnauthenticatedError):
            provider.redeem_code("code", code_verifier="v", nonce=nonce)


def test_an_old_id_token_opens_no_session(issuer: Issuer, provider: OidcProvider) -> None:
    assert provider.verify_id_token(issuer.token(aud=CLIENT)).name == "ada"
    with pytest.raises(UnauthenticatedError, match="too old"):
        provider.verify_id_token(issuer.token(aud=CLIENT, iat=int(time.time()) - 700))


def test_an_address_counts_only_if_it_is_verified(issuer: Issuer, provider: OidcProvider) -> None:
    by_address = OidcProvider(
        OidcClient(issuer=ISSUER, client_id=CLIENT, audience=AUDIENCE, name_claim="email"), provider.metadata
    )
    token = issuer.token(email="ada@example.org", email_verified=True)
    assert by_address.verify_access_token(token).name == "ada@example.org"
    for verified in (False, None, "true"):
        with pytest.raises(UnauthenticatedError, match="not verified"):
            by_address.verify_access_token(issuer.token(email="ada@example.org", email_verified=verified))


def test_keys_are_read_from_the_issuer_only(issuer: Issuer, provider: OidcProvider) -> None:
    issuer.status = 302
    with pytest.raises(UnavailableError):
        provider.verify_access_token(issuer.token())
    issuer.status, issuer.document["issuer"] = 200, "https://evil.example"
    with pytest.raises(UnavailableError, match=r"names the issuer 'https://evil\.example'"):
        provider.verify_access_token(issuer.token())
    issuer.document |= {"issuer": ISSUER, "jwks_uri": "http://idp.example/keys"}
    with pytest.raises(UnavailableError, match="jwks_uri is not an https URL"):
        provider.verify_access_token(issuer.token())
    assert "/keys" not in issuer.requests


def test_symmetric_and_broken_keys_do_not_count(issuer: Issuer, provider: OidcProvider) -> None:
    secret = {"kty": "oct", "kid": "shared", "k": encoded(b"0" * 32)}
    issuer.keys += [secret, {"kty": "RSA", "kid": "broken"}, {**public_jwk(OTHER, "enc"), "use": "enc"}, {"kty": "RSA"}]
    assert provider.verify_access_token(issuer.token()).name == "ada"
    for kid in ("shared", "broken", "enc"):
        token = jwt.encode(issuer.claims(), OTHER, "RS256", headers={"kid": kid})
        with pytest.raises(UnauthenticatedError, match="its key is unknown"):
            provider.verify_access_token(token)


def test_settings_that_weaken_the_checks_are_refused() -> None:
    for algorithm in ("none", "HS256"):
        with pytest.raises(InvalidError, match=algorithm):
            OidcClient(issuer=ISSUER, client_id=CLIENT, algorithms=("RS256", algorithm))
    with pytest.raises(InvalidError, match="audience"):
        OidcClient(issuer=ISSUER, client_id=CLIENT, audience=CLIENT)
    with pytest.raises(InvalidError, match="https"):
        OidcClient(issuer="http://idp.example", client_id=CLIENT)


@pytest.mark.parametrize("url", ["http://idp.example", "ftp://a", "https://", "https://user@host", "//host", ""])
def test_a_url_that_is_not_secure_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        require_secure(url, "the issuer")
    assert require_secure("http://127.0.0.1:8080/realms/x", "the issuer")
