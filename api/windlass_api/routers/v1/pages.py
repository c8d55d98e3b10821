"""Pages that jobs wrote from tenants' data: shown under a policy that lets them load and run nothing."""

from fastapi.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def html_page(content: bytes) -> HTMLResponse:
    """Return a self-contained page."""
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})
