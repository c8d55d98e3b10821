"""Greedy generation for many prompts: batches of similar length, left padding, KV cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from windlass_pipelines.train.batches import length_sorted_batches
from windlass_pipelines.train.distributed import DistributedContext

_BATCH_SIZE = 16


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    dist: DistributedContext,
    *,
    max_new_tokens: int,
    eos_token_ids: frozenset[int],
    pad_token_id: int,
) -> list[list[int]]:
    """Return for each prompt, on every rank, at most ``max_new_tokens`` ids without the end-of-sequence token."""
    # 0 means no token, so that the sum over the ranks combines their rows
    generated = torch.zeros(len(prompts), max_new_tokens, dtype=torch.long)
    for rows in length_sorted_batches([len(prompt) for prompt in prompts], _BATCH_SIZE)[dist.rank :: dist.world_size]:
        answers = _generate_batch(
            model, [prompts[i] for i in rows], dist.device, max_new_tokens, eos_token_ids, pad_token_id
        )
        generated[torch.from_numpy(rows.copy()), : answers.shape[1]] = answers + 1
    return [[token - 1 for token in row if token] for row in dist.all_reduce_sum(generated).tolist()]


@torch.inference_mode()
def _generate_batch(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    max_new_tokens: int,
    eos_token_ids: frozenset[int],
    pad_token_id: int,
) -> Tensor:
    """Return ids of shape (rows, at most max_new_tokens), -1 after the end of a row's answer."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), pad_token_id, dtype=np.int64)
    prompt_mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        prompt_mask[row, longest - len(prompt) :] = 1
    tokens, attention_mask = torch.from_numpy(ids).to(device), torch.from_numpy(prompt_mask).to(device)
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    eos_ids = torch.tensor(sorted(eos_token_ids), device=device)
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    answers: list[Tensor] = []
    cache: Any = None
    for _ in range(max_new_tokens):
        output = model(
            input_ids=tokens,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, next_tokens = output.past_key_values, output.logits[:, -1].argmax(-1)
        finished = finished | torch.isin(next_tokens, eos_ids)
        answers.append(torch.where(finished, -1, next_tokens))
        if bool(finished.all()):
            break
        tokens, position_ids = torch.where(finished, pad_token_id, next_tokens)[:, None], position_ids[:, -1:] + 1
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(prompts), 1)], dim=1)
    return torch.stack(answers, dim=1).cpu()
