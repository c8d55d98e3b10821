"""Sign-in, sessions and users."""

from typing import Annotated

from fastapi import Query, Request, Response
from starlette.responses import RedirectResponse

from windlass.domain.errors import UnauthenticatedError
from windlass.domain.identity import SessionKind, UserAccount, UserSession
from windlass.domain.projects import Permission
from windlass.domain.text import TextConstraints
from windlass.services.base import RequestOrigin
from windlass.services.sign_in import NewSession, SignIn, SignInReply
from windlass.services.sign_in import Sessions as SessionService
from windlass.services.users import Users
from windlass.wire.base import Page
from windlass.wire.identity import (
    CurrentSessionOut,
    DeviceClientOut,
    IdTokenIn,
    KeySessionIn,
    LinkSessionIn,
    NewSessionOut,
    SessionOut,
    SignInLinkOut,
    SignInOut,
    UserOut,
)
from windlass_api import routing
from windlass_api.browser_sessions import (
    delete_session_cookie,
    delete_sign_in_cookie,
    read_sign_in_cookie,
    set_session_cookie,
    set_sign_in_cookie,
)
from windlass_api.dependencies import RequestContext, client_address, get_app_context, require_global
from windlass_api.paging import paginate, paginate_items
from windlass_api.parameters import CursorText, Limit, SessionId, UserParameter
from windlass_api.request_checks import OPEN_QUERY

router = routing.router(prefix="/v1")

_Text = Annotated[str, TextConstraints(max_length=4096)]
_SIGN_IN_PATH = "/v1/auth/sign-in"


def _sign_in(request: Request) -> SignIn:
    return get_app_context(request).access_control.sign_in


def _origin(request: Request) -> RequestOrigin:
    return RequestOrigin(request.scope["windlass.request_id"], client_address(request.scope))


@router.get("/auth", operation_id="getSignIn", tags=["sign-in"])
def get_sign_in(request: Request) -> SignInOut:
    """Get how users sign in; needs no credential."""
    sign_in = _sign_in(request)
    device = sign_in.device_client()
    return SignInOut(
        sign_in_path=_SIGN_IN_PATH if sign_in.provider is not None else None,
        device=DeviceClientOut(**device.model_dump()) if device is not None else None,
    )


@router.get("/auth/sign-in", operation_id="beginSignIn", tags=["sign-in"], status_code=302, response_class=Response)
def begin_sign_in(
    request: Request,
    return_to: Annotated[_Text, Query(description="path of this server at which the browser ends")] = "/",
) -> Response:
    """Send a browser to the identity provider."""
    sign_in = _sign_in(request)
    url, cookie = sign_in.begin(return_to)
    response = RedirectResponse(url, status_code=302)
    set_sign_in_cookie(response, cookie, secure=sign_in.policy.secure_cookies)
    return response


@router.get(
    "/auth/callback",
    operation_id="finishSignIn",
    tags=["sign-in"],
    status_code=302,
    response_class=Response,
    openapi_extra=OPEN_QUERY,
)
def finish_sign_in(
    request: Request,
    state: Annotated[_Text, Query(description="as in the URL of the sign-in")] = "",
    code: Annotated[_Text, Query(description="authorization code")] = "",
    error: Annotated[_Text, Query(description="why the provider refuses the sign-in")] = "",
    iss: Annotated[_Text, Query(description="the issuer that answers (RFC 9207)")] = "",
) -> Response:
    """Finish a browser's sign-in: the identity provider sends it here. Sets the cookie of a session."""
    sign_in = _sign_in(request)
    secure = sign_in.policy.secure_cookies
    if error or not code:
        reason = error if error.isidentifier() else "no code"
        raise UnauthenticatedError(f"the identity provider refuses the sign-in: {reason[:100]}", hint="sign in again")
    headers = {name.lower(): value for name, value in request.headers.items()}
    cookie = read_sign_in_cookie(headers, secure=secure)
    new, return_to = sign_in.finish(cookie, SignInReply(state=state, code=code, issuer=iss), _origin(request))
    response = RedirectResponse(return_to, status_code=302)
    delete_sign_in_cookie(response, secure=secure)
    set_session_cookie(response, new, secure=secure)
    return response


@router.post("/auth/cli-sessions", status_code=201, operation_id="createCliSession", tags=["sign-in"])
def create_cli_session(body: IdTokenIn, request: Request) -> NewSessionOut:
    """Open a session for an ID token from the device flow. Only this response contains its secret."""
    new = _sign_in(request).exchange(body.id_token, _origin(request))
    return NewSessionOut(**session_out(new.session).model_dump(), secret=new.token)


@router.post("/auth/browser-sessions", status_code=201, operation_id="createBrowserSession", tags=["sign-in"])
def create_browser_session(body: KeySessionIn, request: Request, response: Response) -> CurrentSessionOut:
    """Open a session of a browser with an API key, and set its cookie."""
    app = get_app_context(request)
    sign_in = app.access_control.sign_in
    principal = app.access_control.authenticate_key(body.key)
    new = sign_in.open_for_key(principal, _origin(request))
    set_session_cookie(response, new, secure=sign_in.policy.secure_cookies)
    return _current_session_out(sign_in, new)


@router.post("/auth/links", status_code=201, operation_id="createSignInLink", tags=["sign-in"])
def create_sign_in_link(
    request: Request, ctx: Annotated[RequestContext, require_global(Permission.SESSIONS_OWN)]
) -> SignInLinkOut:
    """Create a link that signs a browser in with the rights of the API key of this request: once, within a minute."""
    new = _sign_in(request).create_link(ctx.caller.principal, _origin(request))
    return SignInLinkOut(path=f"/sign-in#code={new.token}", expires_at=new.session.expires_at)


@router.post("/auth/link-sessions", status_code=201, operation_id="createLinkSession", tags=["sign-in"])
def create_link_session(body: LinkSessionIn, request: Request, response: Response) -> CurrentSessionOut:
    """Open a session of a browser with the code of a sign-in link, and set its cookie."""
    app = get_app_context(request)
    sign_in = app.access_control.sign_in
    principal = app.access_control.authenticate_session(body.code, SessionKind.LINK)
    new = sign_in.open_for_link(principal, _origin(request))
    set_session_cookie(response, new, secure=sign_in.policy.secure_cookies)
    return _current_session_out(sign_in, new)


def _current_session_out(sign_in: SignIn, new: NewSession) -> CurrentSessionOut:
    csrf_token = sign_in.deps.hasher.csrf_token(new.session.id)
    return CurrentSessionOut(**session_out(new.session).model_dump(), csrf_token=csrf_token)


@router.get("/session", operation_id="getSession", tags=["sign-in"])
def get_session(ctx: Annotated[RequestContext, require_global(Permission.SESSIONS_OWN)]) -> CurrentSessionOut:
    """Get the session of the request, with the CSRF token of a browser."""
    session = ctx.service(SessionService).current()
    return CurrentSessionOut(**session_out(session).model_dump(), csrf_token=ctx.deps.hasher.csrf_token(session.id))


@router.delete("/session", status_code=204, operation_id="endSession", tags=["sign-in"])
def end_session(
    request: Request, response: Response, ctx: Annotated[RequestContext, require_global(Permission.SESSIONS_OWN)]
) -> None:
    """Sign out: end the session of the request."""
    sessions = ctx.service(SessionService)
    sessions.end(sessions.current().id)
    delete_session_cookie(response, secure=_sign_in(request).policy.secure_cookies)


@router.get("/sessions", operation_id="listSessions", tags=["sign-in"])
def list_sessions(
    ctx: Annotated[RequestContext, require_global(Permission.SESSIONS_OWN)],
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[SessionOut]:
    """List the own sessions that have not ended, oldest first."""
    return paginate_items(ctx.service(SessionService).all(), limit, cursor, lambda session: session.id, session_out)


@router.delete("/sessions/{session}", status_code=204, operation_id="endOtherSession", tags=["sign-in"])
def end_other_session(
    session: SessionId, ctx: Annotated[RequestContext, require_global(Permission.SESSIONS_OWN)]
) -> None:
    """End an own session, such as that of a lost machine."""
    ctx.service(SessionService).end(session)


@router.get("/users", operation_id="listUsers", tags=["users"])
def list_users(
    ctx: Annotated[RequestContext, require_global(Permission.USERS_READ)], limit: Limit = 50, cursor: CursorText = None
) -> Page[UserOut]:
    """List the users who have signed in by the identity provider, by name."""
    return paginate(ctx.service(Users).page, limit, cursor, lambda user: user.name, user_out)


@router.post("/users/{user}:disable", operation_id="disableUser", tags=["users"])
def disable_user(
    user: UserParameter, ctx: Annotated[RequestContext, require_global(Permission.USERS_WRITE)]
) -> UserOut:
    """Refuse the keys, sessions and tokens of a user from now on, and end the sessions."""
    return user_out(ctx.service(Users).set_disabled(user, disabled=True))


@router.post("/users/{user}:enable", operation_id="enableUser", tags=["users"])
def enable_user(user: UserParameter, ctx: Annotated[RequestContext, require_global(Permission.USERS_WRITE)]) -> UserOut:
    """Let a disabled user sign in again; the keys are valid again."""
    return user_out(ctx.service(Users).set_disabled(user, disabled=False))


def session_out(session: UserSession) -> SessionOut:
    """Map a session, without its hash."""
    return SessionOut(
        id=session.id,
        user=session.user,
        kind=session.kind.value,
        created_at=session.created_at,
        expires_at=session.expires_at,
    )


def user_out(account: UserAccount) -> UserOut:
    """Map a user."""
    return UserOut(
        name=account.name,
        display_name=account.display_name,
        issuer=account.issuer,
        groups=list(account.groups),
        signed_in_at=account.signed_in_at,
        disabled_at=account.disabled_at,
    )
