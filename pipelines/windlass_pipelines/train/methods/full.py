"""Full fine-tuning."""

from torch import nn


class Full:
    """Trains all parameters."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make every parameter trainable."""
        return model.requires_grad_(requires_grad=True)

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: it has no adapters."""
        return model
