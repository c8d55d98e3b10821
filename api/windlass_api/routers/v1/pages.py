"""HTML pages generated from tenant data: the content security policy blocks scripts and external resources."""

from fastapi.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"


def html_page(content: bytes) -> HTMLResponse:
    """Return the response of a self-contained page."""
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})
