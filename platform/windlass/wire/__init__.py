"""The shapes on the wire, shared by the API that answers and the SDK that asks: one source, no generated copy.

``*In`` models refuse unknown keys; ``*Out`` models ignore them, so that an older client reads a newer server.
"""
