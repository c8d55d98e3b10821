"""Converts GGUF to safetensors: weights dequantized to fp32, configuration and tokenizer from the file's metadata."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from windlass.domain.errors import InvalidError

_LOAD_OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file into ``folder``. Needs memory for two copies of the weights in fp32.

    Raises:
        InvalidError: the file cannot be read, or its architecture is not supported.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **_LOAD_OPTIONS)
        loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, **_LOAD_OPTIONS
        )
    except Exception as error:  # a damaged file can raise anything
        message = " ".join(str(error).split())[:300] or type(error).__name__
        raise InvalidError(f"{gguf.name} cannot be read as a GGUF language model: {message}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(loaded).__name__]
    # transformers does not save a model that was loaded from GGUF, so its weights are copied into a new one
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
