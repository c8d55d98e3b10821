"""Bounds of the served applications, in one place, so that deploying needs no model library."""

MAX_BODY_BYTES = 1024 * 1024
MAX_INPUTS = 256
"""Texts in one classification request."""
MAX_INPUT_CHARACTERS = 100_000
MAX_MESSAGES = 1024
MAX_CONTENT_CHARACTERS = 500_000
MAX_NEW_TOKENS = 4096
DEFAULT_NEW_TOKENS = 512
SLOTS = 4
"""Chat answers that a replica writes in turn."""
WAITING = 16
"""Chat requests that wait for a slot; more are told to come again."""
