"""Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685) with peft."""

import warnings
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import nn

from windlass.domain.specs import LoraMethod
from windlass_pipelines.train.result import TrainingError


class Lora:
    """Trains low-rank matrices added to linear layers, and all parameters of a new head."""

    def __init__(self, spec: LoraMethod) -> None:
        self._spec = spec

    def prepare(self, model: nn.Module) -> nn.Module:
        """Wrap the model with LoRA adapters.

        Raises:
            TrainingError: ``method_unsuitable``: no layer matches ``target_modules``.
        """
        targets = self._spec.target_modules
        config = LoraConfig(
            r=self._spec.rank,
            lora_alpha=self._spec.alpha,
            lora_dropout=self._spec.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="SEQ_CLS" if _has_new_head(model) else "CAUSAL_LM",
        )
        try:
            with warnings.catch_warnings():
                # peft reads an attribute that transformers has renamed
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                wrapped: nn.Module = get_peft_model(model, config)
        except ValueError as error:
            raise TrainingError("method_unsuitable", f"LoRA does not fit this model: {error}") from error
        return wrapped

    def merge(self, model: nn.Module) -> nn.Module:
        """Add the adapter products to the base weights, in the weights' precision."""
        peft_model: Any = model
        merged: nn.Module = peft_model.merge_and_unload(safe_merge=True)
        return merged


def _has_new_head(model: nn.Module) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")
