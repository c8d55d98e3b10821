"""AdamW without decay on biases and norms, and its moments as plain tensors by weight name."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adamw(parameters: Mapping[str, nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return the optimiser (Loshchilov and Hutter, 2019); vectors are biases and norms, and do not decay."""
    matrices = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    others = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the optimiser's state as ``<field>/<weight>``; a weight that has had no gradient yet has none."""
    return {
        f"{field}/{name}": value
        for name, parameter in parameters.items()
        for field, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]
) -> None:
    """Put back what ``moments`` returned."""
    for key, value in saved.items():
        field, name = key.split("/", 1)
        parameter = parameters[name]
        optimizer.state[parameter][field] = value.to(parameter.device).clone()


def restore_weights(parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]) -> None:
    """Copy saved values into the weights."""
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(value)
