"""Loads models from verified artifacts: safetensors only, no remote code, with a check of the free memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from windlass.domain.errors import InvalidError, UnavailableError
from windlass.domain.specs import Task
from windlass_pipelines.serve.artifact import ArtifactMetadata, ModelLoadError, ModelMemoryError

_DEFAULT_LENGTH = 512
_HEADROOM_BYTES = 128 * 1024 * 1024
"""Memory for activations, caches and the interpreter."""
_OUT_OF_MEMORY_MARKERS = ("out of memory", "allocate memory", "not enough memory")
"""Parts of the out-of-memory messages of torch and the operating system, which use several error classes."""
_UNBOUNDED = 10**9
"""Tokenizers without a maximum length report a number far above this one."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer and its maximum length in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    metadata: ArtifactMetadata
    max_length: int
    """Classification: tokens per text, as in training. Chat: tokens of prompt and answer together."""


def load(folder: Path, metadata: ArtifactMetadata, threads: int) -> LoadedModel:
    """Load a verified artifact; the model uses ``threads`` CPU threads.

    Raises:
        ModelLoadError: the weights do not match the model's configuration.
        ModelMemoryError: the free memory is too small.
    """
    try:
        check_memory(sum(path.stat().st_size for path in folder.rglob("*.safetensors")), available_memory())
        torch.set_num_threads(threads)
        return _load(folder, metadata)
    except Exception as error:
        # Libraries can raise anything on a bad file; the user needs the message, not the traceback.
        raise (ModelMemoryError if _is_out_of_memory(error) else ModelLoadError)(error) from error


def _load(folder: Path, metadata: ArtifactMetadata) -> LoadedModel:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        # As in training; the attention mask covers the padding.
        tokenizer.pad_token = tokenizer.eos_token
    kind = AutoModelForSequenceClassification if metadata.task is Task.TEXT_CLASSIFICATION else AutoModelForCausalLM
    model, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        # The evaluation on a CPU uses float32; half precision is slow there and gives other results.
        dtype="auto" if torch.cuda.is_available() else torch.float32,
        output_loading_info=True,
    )
    # transformers initializes missing weights randomly; the model would respond with nonsense.
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
        raise InvalidError(f"the artifact lacks weights of the model, first {missing[0]}")
    model.eval()
    if torch.cuda.is_available():
        model.to("cuda")
    return LoadedModel(model, tokenizer, metadata, _length(model, tokenizer, metadata))


def _length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, metadata: ArtifactMetadata) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and limit < _UNBOUNDED]
    if metadata.task is Task.TEXT_CLASSIFICATION and metadata.max_length:
        limits.append(metadata.max_length)
    return min(limits, default=_DEFAULT_LENGTH)


def check_memory(weights: int, available: int) -> None:
    """Check that the model fits into the free memory, before the OOM killer terminates a process.

    Raises:
        UnavailableError: the free memory is too small; the message has both sizes.
    """
    needed = weights + _HEADROOM_BYTES
    if needed > available:
        mebibyte = 1024 * 1024
        raise UnavailableError(
            f"no free memory for the model: it needs {needed // mebibyte} MiB, {available // mebibyte} MiB are free"
        )


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | UnavailableError) or any(
        marker in str(error).lower() for marker in _OUT_OF_MEMORY_MARKERS
    )


def available_memory(root: Path = Path("/")) -> int:
    """Return the available bytes: the minimum of MemAvailable (proc(5)) and the rest of the cgroup v2 limit."""
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = (root / "sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - int(used)))


def end_tokens(tokenizer: PreTrainedTokenizerBase, generation_end: int | Sequence[int] | None) -> frozenset[int]:
    """Return the tokens that end an answer: of the generation config, the tokenizer and the template's end of turn."""
    declared = [generation_end] if isinstance(generation_end, int) else list(generation_end or ())
    marker = "windlass"
    turns = [{"role": "user", "content": marker}, {"role": "assistant", "content": marker}]
    rest = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(marker)[2]
    closing = tokenizer.encode(rest, add_special_tokens=False)[:1]
    turn_end = [token for token in closing if token in tokenizer.all_special_ids]
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return frozenset([*declared, *own, *turn_end])
