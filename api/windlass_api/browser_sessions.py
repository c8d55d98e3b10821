"""The cookies of browsers, and the checks of requests that they authenticate.

A cookie is sent with every request to this server, also with one that a page of another site makes. A request that
changes something therefore needs a header that no other site can set or know (a CSRF token), and must not come from
another origin.
"""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import cookie_parser
from starlette.responses import Response

from windlass.domain.errors import ForbiddenError
from windlass.services.secrets import SecretHasher
from windlass.services.sign_in import SIGN_IN_LIFETIME, NewSession

CSRF_HEADER = "x-csrf-token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SIGN_IN_PATH = "/v1/auth"


def _session_cookie(*, secure: bool) -> str:
    """Return the name of the cookie; browsers accept ``__Host-`` from this host by https only."""
    return "__Host-windlass-session" if secure else "windlass-session"


def _sign_in_cookie(*, secure: bool) -> str:
    return "__Secure-windlass-sign-in" if secure else "windlass-sign-in"


def read_session_cookie(headers: Mapping[str, str], *, secure: bool) -> str:
    """Return the session token of a request, empty without one."""
    return cookie_parser(headers.get("cookie", "")).get(_session_cookie(secure=secure), "")


def read_sign_in_cookie(headers: Mapping[str, str], *, secure: bool) -> str:
    """Return what the sign-in that this browser has begun remembers, empty without one."""
    return cookie_parser(headers.get("cookie", "")).get(_sign_in_cookie(secure=secure), "")


def set_session_cookie(response: Response, new: NewSession, *, secure: bool) -> None:
    """Store a session in the browser, out of the reach of scripts, until it expires."""
    seconds = int((new.session.expires_at - new.session.created_at).total_seconds())
    name = _session_cookie(secure=secure)
    response.set_cookie(name, new.token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")


def delete_session_cookie(response: Response, *, secure: bool) -> None:
    """Remove the session from the browser."""
    name = _session_cookie(secure=secure)
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")


def set_sign_in_cookie(response: Response, content: str, *, secure: bool) -> None:
    """Store a sign-in that begins."""
    name, seconds = _sign_in_cookie(secure=secure), int(SIGN_IN_LIFETIME.total_seconds())
    # "lax": the provider sends the browser back by a link, with which "strict" cookies are not sent.
    response.set_cookie(
        name, content, max_age=seconds, path=_SIGN_IN_PATH, secure=secure, httponly=True, samesite="lax"
    )


def delete_sign_in_cookie(response: Response, *, secure: bool) -> None:
    """Remove a sign-in that has ended."""
    name = _sign_in_cookie(secure=secure)
    response.delete_cookie(name, path=_SIGN_IN_PATH, secure=secure, httponly=True, samesite="lax")


def require_same_site(method: str, headers: Mapping[str, str], session: str, hasher: SecretHasher) -> None:
    """Require that a request of a browser comes from a page of this server, if it may change something.

    Args:
        method: HTTP method.
        headers: headers by lower-case name.
        session: id of the session.
        hasher: derives the CSRF token.

    Raises:
        ForbiddenError: it comes from another site, or its CSRF token is missing or wrong.
    """
    if method in _SAFE_METHODS:
        return
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise ForbiddenError("the request comes from a page of another site")
    expected = hasher.csrf_token(session)
    if not hmac.compare_digest(expected.encode(), headers.get(CSRF_HEADER, "").encode()):
        raise ForbiddenError(
            "the X-CSRF-Token header is missing or wrong", hint="send `csrf_token` of GET /v1/session in it"
        )
