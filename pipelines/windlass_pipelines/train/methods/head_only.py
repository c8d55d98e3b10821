"""Training of the task head on a frozen base model."""

from torch import nn

from windlass_pipelines.train.result import TrainingError


class HeadOnly:
    """Trains the head; the base model's parameters are frozen."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze the base model.

        Raises:
            TrainingError: ``method_unsuitable``: the model has no head.
        """
        body = str(getattr(model, "base_model_prefix", "")) + "."
        head = [parameter for name, parameter in model.named_parameters() if not name.startswith(body)]
        if not head:
            raise TrainingError("method_unsuitable", "head-only needs a model with a head of its own; use lora or full")
        model.requires_grad_(requires_grad=False)
        for parameter in head:
            parameter.requires_grad = True
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: it has no adapters."""
        return model
