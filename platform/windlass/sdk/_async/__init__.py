"""The asynchronous client: the source from which ``windlass.sdk._sync`` is generated."""
