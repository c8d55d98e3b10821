"""Errors in the form of the OpenAI API, for its stock clients."""

from typing import Any

from windlass.domain.errors import WindlassError
from windlass.wire.problems import status_of


def openai_error(error: WindlassError) -> dict[str, Any]:
    """Return the error object; ``param`` is the first invalid field."""
    pointer = error.fields[0].pointer.lstrip("/").replace("/", ".") if error.fields else ""
    kind = "invalid_request_error" if status_of(type(error)) < 429 else "server_error"  # noqa: PLR2004 - HTTP status
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return {"message": message, "type": kind, "param": pointer or None, "code": error.code}
