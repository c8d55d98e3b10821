"""Train the task's head alone."""

from torch import nn

from windlass_pipelines.train.outcome import TrainingError


class FrozenBody:
    """The head learns, the body keeps the weights it came with."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze what the base model came with.

        Raises:
            TrainingError: ``method_unsuitable``: the model has no head beside its body.
        """
        body = str(getattr(model, "base_model_prefix", "")) + "."
        head = [parameter for name, parameter in model.named_parameters() if not name.startswith(body)]
        if not head:
            raise TrainingError(
                "method_unsuitable", "frozen-body needs a model with a head of its own; use lora or full"
            )
        model.requires_grad_(requires_grad=False)
        for parameter in head:
            parameter.requires_grad = True
        return model

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model: its own weights were trained."""
        return model
