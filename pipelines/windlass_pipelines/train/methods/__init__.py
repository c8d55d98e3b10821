"""Fine-tuning methods: which parameters are trained and how adapters are merged. Each method is one module."""

from typing import Protocol

from torch import nn

from windlass.domain.specs import FullMethod, HeadOnlyMethod, LoraMethod, Method
from windlass_pipelines.train.methods.full import Full
from windlass_pipelines.train.methods.head_only import HeadOnly


class MethodAdapter(Protocol):
    """One fine-tuning method."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Set ``requires_grad`` and add adapters; new weights are drawn from torch's global generator."""
        ...

    def merge(self, model: nn.Module) -> nn.Module:
        """Merge adapters into the base model and return it. Called once, after training."""
        ...


def method_for(spec: Method) -> MethodAdapter:
    """Return the adapter of a method."""
    match spec:
        case FullMethod():
            return Full()
        case HeadOnlyMethod():
            return HeadOnly()
        case LoraMethod():
            from windlass_pipelines.train.methods.lora import Lora  # noqa: PLC0415 - peft takes 3 s to load

            return Lora(spec)
