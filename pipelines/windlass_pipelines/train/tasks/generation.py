"""Greedy answers to many prompts at once: batches of like length, padded left, with a key-value cache."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from windlass_pipelines.train.batches import by_length
from windlass_pipelines.train.collective import Ranks

_ROWS = 16


def generate(
    model: nn.Module, prompts: Sequence[Sequence[int]], ranks: Ranks, *, limit: int, stop: frozenset[int], pad: int
) -> list[list[int]]:
    """Return for each prompt at most ``limit`` ids, without the one of ``stop`` that ended them; each rank gets all."""
    # 0 means none, so that the sum over the ranks puts every row where it belongs
    found = torch.zeros(len(prompts), limit, dtype=torch.long)
    for rows in by_length([len(prompt) for prompt in prompts], _ROWS)[ranks.rank :: ranks.size]:
        answers = _greedy(model, [prompts[i] for i in rows], ranks.device, limit, stop, pad)
        found[torch.from_numpy(rows.copy()), : answers.shape[1]] = answers + 1
    return [[token - 1 for token in row if token] for row in ranks.total(found).tolist()]


@torch.inference_mode()
def _greedy(
    model: nn.Module, prompts: Sequence[Sequence[int]], device: torch.device, limit: int, stop: frozenset[int], pad: int
) -> Tensor:
    """Return (rows, at most limit) ids, -1 from the end of a row's answer on."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    tokens, seen = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
    places = (seen.cumsum(1) - 1).clamp(min=0)
    ends = torch.tensor(sorted(stop), device=device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    answers: list[Tensor] = []
    cache: Any = None
    for _ in range(limit):
        output = model(
            input_ids=tokens,
            attention_mask=seen,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, best = output.past_key_values, output.logits[:, -1].argmax(-1)
        ended = ended | torch.isin(best, ends)
        answers.append(torch.where(ended, -1, best))
        if bool(ended.all()):
            break
        tokens, places = torch.where(ended, pad, best)[:, None], places[:, -1:] + 1
        seen = torch.cat([seen, seen.new_ones(len(prompts), 1)], dim=1)
    return torch.stack(answers, dim=1).cpu()
