"""What the operators put into the pods of model servers, and the model servers read."""

from typing import Final

APPLICATION: Final = "windlass_pipelines.serve.application:build"
"""The import path in the Serve configuration; a constant without user input."""
DEPLOYMENT_NAME: Final = "model"
"""The only deployment of an application."""
CREDENTIALS_VARIABLE: Final = "WINDLASS_SERVE_CREDENTIALS"
"""Folder of the mounted Secret."""
AUTHORIZATION_FILE: Final = "authorization"
"""The header that every request needs."""
TOKEN_FILE: Final = "token"  # noqa: S105 - the name of a file
"""The token with which a replica fetches its artifact."""
CACHE_VARIABLE: Final = "WINDLASS_SERVE_CACHE"
"""Folder in which fetched artifacts are kept; unset: nothing is kept."""
