"""GGUF to safetensors: weights dequantised to fp32, configuration and tokenizer from the file's metadata."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from windlass.domain.errors import InvalidError

_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file into ``folder``. Needs memory for twice the weights in fp32.

    Raises:
        InvalidError: the file cannot be read, or its architecture is not known.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, **_SAFE)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32, **_SAFE)
    except Exception as error:  # a damaged file raises what it likes
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise InvalidError(f"{gguf.name} cannot be read as a GGUF language model: {words}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(loaded).__name__]
    # a model that was loaded from GGUF refuses to be saved; one built from its configuration does not
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
