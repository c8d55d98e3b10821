"""Models from verified artifacts: local safetensors only, no code from the folder, enough memory or a clear refusal."""

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
from windlass_pipelines.serve.artifact import Card, ModelLoadError, ModelMemoryError

_DEFAULT_LENGTH = 512
_HEADROOM_BYTES = 128 * 1024 * 1024
"""Activations, caches and the interpreter's own growth."""
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")
"""What torch and the operating system say of it, under whatever class of error."""
_UNBOUNDED = 10**9
"""Tokenizers without a limit of their own say a number far above this one."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and how many tokens it reads."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    card: Card
    max_length: int
    """Classification: tokens per text, as in training. Chat: tokens of prompt and answer together."""


def load(folder: Path, card: Card, threads: int) -> LoadedModel:
    """Load from an admitted folder, computing with ``threads`` CPU threads.

    Raises:
        ModelLoadError: the weights are not those of the configured model.
        ModelMemoryError: they do not fit into the memory that is free now.
    """
    try:
        check_memory(sum(path.stat().st_size for path in folder.rglob("*.safetensors")), available_memory())
        torch.set_num_threads(threads)
        return _load(folder, card)
    except Exception as error:
        # Libraries raise whatever they like on a bad file; the deployer needs the sentence, not their stack.
        raise (ModelMemoryError if _lacks_memory(error) else ModelLoadError)(error) from error


def _load(folder: Path, card: Card) -> LoadedModel:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        # As in training; the attention mask hides what is padded.
        tokenizer.pad_token = tokenizer.eos_token
    kind = AutoModelForSequenceClassification if card.task is Task.TEXT_CLASSIFICATION else AutoModelForCausalLM
    model, report = kind.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        # Evaluation ran in float32 on a CPU; half precision there is slow and would answer differently.
        dtype="auto" if torch.cuda.is_available() else torch.float32,
        output_loading_info=True,
    )
    # A weight that the file lacks is initialised at random: such a model answers, and answers nonsense.
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = sorted([*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])])
        raise InvalidError(f"the artifact lacks weights of the model, first {missing[0]}")
    model.eval()
    if torch.cuda.is_available():
        model.to("cuda")
    return LoadedModel(model, tokenizer, card, _length(model, tokenizer, card))


def _length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: Card) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and limit < _UNBOUNDED]
    if card.task is Task.TEXT_CLASSIFICATION and card.max_length:
        limits.append(card.max_length)
    return min(limits, default=_DEFAULT_LENGTH)


def check_memory(weights: int, available: int) -> None:
    """Refuse a model that does not fit into the memory that is free now, before the kernel kills for it.

    Raises:
        UnavailableError: too little; says how much is needed and how much there is.
    """
    needed = weights + _HEADROOM_BYTES
    if needed > available:
        mebibyte = 1024 * 1024
        raise UnavailableError(
            f"no free memory for the model: it needs {needed // mebibyte} MiB, {available // mebibyte} MiB are free"
        )


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | UnavailableError) or any(words in str(error).lower() for words in _NO_MEMORY)


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that may still be used: what the machine has (proc(5)) and this cgroup (v2) allows."""
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = (root / "sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - int(used)))


def end_tokens(tokenizer: PreTrainedTokenizerBase, generation_end: int | Sequence[int] | None) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own, the tokenizer's, and the template's end of turn."""
    declared = [generation_end] if isinstance(generation_end, int) else list(generation_end or ())
    marker = "windlass"
    turns = [{"role": "user", "content": marker}, {"role": "assistant", "content": marker}]
    rest = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(marker)[2]
    closing = tokenizer.encode(rest, add_special_tokens=False)[:1]
    turn_end = [token for token in closing if token in tokenizer.all_special_ids]
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return frozenset([*declared, *own, *turn_end])
