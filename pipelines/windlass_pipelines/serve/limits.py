"""Limits of chat requests; a module without model libraries, for the controller."""

MAX_MESSAGES = 1024
MAX_CONTENT_CHARACTERS = 500_000
MAX_NEW_TOKENS = 4096
DEFAULT_NEW_TOKENS = 512
SLOTS = 4
"""Chat requests that a replica decodes concurrently."""
MAX_QUEUED = 16
"""Chat requests that wait for a slot; further ones get status 429."""
