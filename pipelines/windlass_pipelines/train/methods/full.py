"""Train every weight."""

from torch import nn


class Full:
    """All weights learn."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model with every weight trainable."""
        return model.requires_grad_(requires_grad=True)

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model: its own weights were trained."""
        return model
