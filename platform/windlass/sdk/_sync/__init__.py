"""The blocking client, generated from ``windlass.sdk._async`` except for ``io`` and ``pages``."""
