"""AdamW without weight decay on biases and norms, and its state as tensors by parameter name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adamw(parameters: Mapping[str, nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return the optimizer (Loshchilov and Hutter, 2019); one-dimensional parameters get no weight decay."""
    matrices = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimizer's state as ``<field>/<parameter>``; parameters without a gradient so far have none."""
    return {
        f"{field}/{name}": value
        for name, parameter in parameters.items()
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]
) -> None:
    """Load the tensors that ``optimizer_state`` returned."""
    for key, value in saved.items():
        field, name = key.split("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][field] = value.to(parameter.device).clone()


def restore_weights(parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]) -> None:
    """Copy saved values into the parameters, in place."""
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(value)
