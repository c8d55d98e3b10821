"""Windlass: fine-tune models on GPUs that teams share, and serve them on your own Kubernetes."""

__version__ = "0.1.0"
__all__ = ["__version__"]
