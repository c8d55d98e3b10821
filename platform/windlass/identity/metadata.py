"""Metadata and keys of an OpenID Connect issuer (OpenID Connect Discovery 1.0, RFC 7517)."""

import ipaddress
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.runtime.http import external_client

_log = logging.getLogger(__name__)

_TIMEOUT = 5.0
_MAX_DOCUMENT = 1 << 20
_MAX_AGE = 3600.0
_MIN_AGE = 30.0
"""An unknown key makes the keys be read again, at most this often: the tokens of attackers name unknown keys too."""
_OK = 200


def require_secure(url: str, name: str) -> str:
    """Return the URL if it is https, or http on this machine.

    Raises:
        InvalidError: it is not.
    """
    parts = urlsplit(url)
    if parts.hostname and parts.scheme == "https" and not parts.username:
        return url
    if parts.hostname and parts.scheme == "http" and not parts.username and _is_loopback(parts.hostname):
        return url
    raise InvalidError(f"{name} is not an https URL: {url}", hint="http is accepted on this machine only")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_json(http: httpx2.Client, method: str, url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Send a request to the provider; return the status, and the JSON object of the reply or an empty one.

    Raises:
        UnavailableError: the provider does not answer, or with too much.
    """
    try:
        with http.stream(method, url, **options) as reply:
            body = b""
            for part in reply.iter_bytes():
                body += part
                if len(body) > _MAX_DOCUMENT:
                    raise UnavailableError("the reply of the identity provider is too large")
    except httpx2.HTTPError as error:
        raise UnavailableError(f"the identity provider does not answer: {type(error).__name__}") from error
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return reply.status_code, content if isinstance(content, dict) else {}


def provider_client(issuer: str) -> httpx2.Client:
    """Return a client for requests to an issuer."""
    return external_client(timeout=_TIMEOUT, direct=_is_loopback(urlsplit(issuer).hostname or ""))


@dataclass
class IssuerMetadata:
    """The issuer's endpoints and keys, read when needed and kept for an hour.

    Args:
        issuer: the issuer's URL, as in the ``iss`` claim of its tokens.
        http: sends the requests.
        monotonic: seconds of a clock that never jumps.
    """

    issuer: str
    http: httpx2.Client
    monotonic: Callable[[], float] = time.monotonic
    _document: dict[str, Any] = field(default_factory=dict, init=False)
    _document_at: float = field(default=0.0, init=False)
    _keys: dict[str, PyJWK] = field(default_factory=dict, init=False)
    _keys_at: float = field(default=float("-inf"), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def endpoint(self, name: str) -> str:
        """Return an endpoint of the issuer, such as ``token_endpoint``; empty if it has none.

        Raises:
            UnavailableError: the issuer does not answer, or its document is not valid.
        """
        with self._lock:
            value = self._read_document().get(name, "")
        if not isinstance(value, str) or not value:
            return ""
        try:
            return require_secure(value, name)
        except InvalidError as error:
            raise UnavailableError(f"the metadata of the identity provider is not valid: {error.message}") from error

    def _read_document(self) -> Mapping[str, Any]:
        if self._document and self.monotonic() - self._document_at < _MAX_AGE:
            return self._document
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, document = read_json(self.http, "GET", url)
        if status != _OK or document.get("issuer") != self.issuer:
            if self._document:  # a provider that fails for a moment does not end the sign-ins
                _log.warning("the identity provider's metadata cannot be read", extra={"status": status})
                return self._document
            raise UnavailableError(
                f"{url} answers {status} and names the issuer {document.get('issuer')!r}, not {self.issuer!r}"
            )
        self._document, self._document_at = document, self.monotonic()
        return document

    def key(self, key_id: str) -> PyJWK | None:
        """Return a signing key of the issuer; None: it has no key of that id.

        Raises:
            UnavailableError: the issuer does not answer.
        """
        age = self.monotonic() - self._keys_at  # also bounds how long a key that the provider withdrew counts
        if age < _MIN_AGE or (age < _MAX_AGE and key_id in self._keys):
            return self._keys.get(key_id)
        url = self.endpoint("jwks_uri")
        with self._lock:
            status, document = read_json(self.http, "GET", url)
            if status != _OK:
                raise UnavailableError(f"the keys of the identity provider cannot be read: status {status}")
            self._keys, self._keys_at = _signing_keys(document), self.monotonic()
        return self._keys.get(key_id)


def _signing_keys(document: Mapping[str, Any]) -> dict[str, PyJWK]:
    """Return the public keys by id. Symmetric keys and keys for encryption are left out."""
    keys = {}
    for entry in document.get("keys", ()):
        if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
            continue
        if not isinstance(entry.get("kid"), str):
            continue
        try:
            keys[entry["kid"]] = PyJWK(entry)
        except (PyJWTError, ValueError):
            _log.warning("a key of the identity provider cannot be read")
    return keys
