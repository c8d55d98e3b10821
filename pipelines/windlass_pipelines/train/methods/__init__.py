"""Which weights are trained, and how they become plain weights again. A new method is one file and one line here."""

from typing import Protocol

from torch import nn

from windlass.domain.specs import FrozenBodyMethod, FullMethod, LoraMethod, Method
from windlass_pipelines.train.methods.frozen_body import FrozenBody
from windlass_pipelines.train.methods.full import Full


class MethodAdapter(Protocol):
    """One fine-tuning method."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Set ``requires_grad`` and add what the method adds; new weights come from torch's generator."""
        ...

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model that ``prepare`` was given, with what was learned in its own weights. Once, at the end."""
        ...


def method_for(spec: Method) -> MethodAdapter:
    """Return the adapter of a method."""
    match spec:
        case FullMethod():
            return Full()
        case FrozenBodyMethod():
            return FrozenBody()
        case LoraMethod():
            from windlass_pipelines.train.methods.lora import Lora  # noqa: PLC0415 - peft takes 3 s to load

            return Lora(spec)
