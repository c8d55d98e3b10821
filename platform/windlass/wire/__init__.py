"""Request and response models, shared by the API and the SDK.

``*In`` models reject unknown keys; ``*Out`` models ignore them, so that older clients accept newer servers.
"""
