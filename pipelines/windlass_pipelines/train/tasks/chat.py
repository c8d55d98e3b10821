"""Chat fine-tuning: a causal language model learns what the assistant says, and nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from windlass_pipelines.report.facts import ChatSample
from windlass_pipelines.train.batches import Example, by_length
from windlass_pipelines.train.collective import Ranks
from windlass_pipelines.train.models import load_causal_lm, load_tokenizer
from windlass_pipelines.train.outcome import TrainingError
from windlass_pipelines.train.rows import Row
from windlass_pipelines.train.tasks import Judgement, TensorBatch, to_device
from windlass_pipelines.train.tasks.conversations import IGNORED, Conversations
from windlass_pipelines.train.tasks.generation import generate
from windlass_pipelines.train.tasks.packing import pack

_EVALUATION_ROWS = 16
_ASKED_BEFORE = 16
"""How many rows the untuned model answers: enough to compare by eye, and cheap."""
_SAMPLES = 20


class Chat:
    """Rows are ``{"messages": [{"role", "content"}, ...]}``."""

    labels: tuple[str, ...] = ()

    def __init__(self, base_model: Path, max_length: int, max_new_tokens: int, *, packing: bool) -> None:
        self._tokenizer = load_tokenizer(base_model)
        self._conversations = Conversations(self._tokenizer)
        self._max_length, self._max_new_tokens, self._packing = max_length, max_new_tokens, packing

    def load(self, folder: Path) -> nn.Module:
        """Return the language model; it generates greedily and stops where turns end."""
        model: Any = load_causal_lm(folder)
        kind = type(model.generation_config)
        model.generation_config = kind(
            eos_token_id=sorted(self._conversations.end_ids), pad_token_id=self._tokenizer.pad_token_id, do_sample=False
        )
        checked: nn.Module = model
        return checked

    def encode(self, rows: Sequence[Row]) -> tuple[list[Example], int]:
        """Tokenise and mask, cutting at ``max_length`` tokens.

        Raises:
            TrainingError: ``nothing_to_learn``: no answer begins within ``max_length`` tokens.
        """
        whole = [self._conversations.encode(row["messages"]) for row in rows]
        examples = [Example(e.ids[: self._max_length], e.targets[: self._max_length]) for e in whole]
        if rows and not any(example.weight for example in examples):
            raise TrainingError(
                "nothing_to_learn",
                f"no row has an answer that begins within training.max_length = {self._max_length} tokens",
            )
        return examples, sum(len(example.ids) > self._max_length for example in whole)

    def arrange(self, examples: Sequence[Example]) -> list[Example]:
        """Drop rows without an answer; pack when the job asks for it."""
        kept = [example for example in examples if example.weight]
        return pack(kept, self._max_length) if self._packing else kept

    def collate(self, examples: Sequence[Example]) -> TensorBatch:
        """Pad right.

        ``input_ids``, ``targets``: (rows, tokens); ``kept``: the places whose next token counts in any row. Packed rows
        have ``position_ids``, in which the padding is one more document; others ``attention_mask``.
        """
        longest = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), longest), self._tokenizer.pad_token_id, dtype=np.int64)
        targets = np.full_like(ids, IGNORED)
        places = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, example in enumerate(examples):
            length = len(example.ids)
            ids[row, :length], targets[row, :length], mask[row, :length] = example.ids, example.targets, 1
            if example.positions is not None:
                places[row, :length] = example.positions
            places[row, length:] = np.arange(longest - length)
        batch = {"input_ids": ids, "targets": targets, "kept": np.flatnonzero((targets[:, 1:] >= 0).any(axis=0))}
        batch |= {"attention_mask": mask} if examples[0].positions is None else {"position_ids": places}
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the cross-entropy of the next tokens, summed over those that count; logits only where needed."""
        kept = batch["kept"]
        context = {name: batch[name] for name in ("attention_mask", "position_ids") if name in batch}
        # with a cache, packed documents would see each other
        logits = model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=kept, **context).logits
        wanted = batch["targets"][:, kept + 1]
        return functional.cross_entropy(
            logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def evaluate(self, model: nn.Module, examples: Sequence[Example], ranks: Ranks) -> dict[str, float]:
        """Return loss and perplexity per token of the answers."""
        total = torch.zeros(2, dtype=torch.float64)
        counted = [example for example in examples if example.weight]
        with torch.inference_mode():
            for rows in by_length([len(e.ids) for e in counted], _EVALUATION_ROWS)[ranks.rank :: ranks.size]:
                chosen = [counted[i] for i in rows]
                total[0] += self.loss(model, to_device(self.collate(chosen), ranks.device)).double().cpu()
                total[1] += sum(example.weight for example in chosen)
        loss, weight = ranks.total(total).tolist()
        mean = loss / weight if weight else math.nan
        return {"loss": mean, "perplexity": math.exp(mean) if mean < 700 else math.inf}  # noqa: PLR2004 - exp overflows

    def before(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks
    ) -> Judgement | None:
        """Measure the base model's perplexity, and let it answer the first rows."""
        scores = self.evaluate(model, examples, ranks)
        asked = _answered(rows)
        few = asked[:_ASKED_BEFORE]
        answers = self._answers(model, few, ranks)
        metrics = {"eval_loss": scores["loss"], "perplexity": scores["perplexity"]}
        if len(few) == len(asked):
            metrics["exact_answer_rate"] = _exact_rate(answers, few)
        return Judgement(metrics=metrics, answers=answers)

    def judge(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[Example], ranks: Ranks, before: Judgement | None
    ) -> Judgement:
        """Return perplexity, the share of rows whose last answer comes out exactly, and samples."""
        scores = self.evaluate(model, examples, ranks)
        rows = _answered(rows)
        answers = self._answers(model, rows, ranks)
        earlier = before.answers if before else ()
        samples = tuple(
            ChatSample(
                prompt=_question(row),
                expected=_expected(row),
                before=earlier[i] if i < len(earlier) else None,
                after=answers[i],
                exact=answers[i] == _expected(row),
            )
            for i, row in enumerate(rows[:_SAMPLES])
        )
        metrics = {
            "perplexity": scores["perplexity"],
            "exact_answer_rate": _exact_rate(answers, rows),
            "eval_loss": scores["loss"],
        }
        return Judgement(metrics=metrics, samples=samples, answers=answers[:_SAMPLES])

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights, configuration, generation settings and tokenizer with its chat template."""
        target: Any = model
        target.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _answers(self, model: nn.Module, rows: Sequence[Row], ranks: Ranks) -> tuple[str, ...]:
        prompts = [self._conversations.prompt(_until_answer(row)) for row in rows]
        ids = generate(
            model,
            prompts,
            ranks,
            limit=self._max_new_tokens,
            stop=self._conversations.end_ids,
            pad=int(self._tokenizer.pad_token_id),
        )
        return tuple(self._conversations.text(answer) for answer in ids)


def _answered(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if any(message["role"] == "assistant" for message in row["messages"])]


def _last_answer(row: Row) -> int:
    messages = row["messages"]
    return max(i for i, message in enumerate(messages) if message["role"] == "assistant")


def _until_answer(row: Row) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = row["messages"][: _last_answer(row)]
    return messages


def _expected(row: Row) -> str:
    return str(row["messages"][_last_answer(row)]["content"]).strip()


def _question(row: Row) -> str:
    return next((str(m["content"]) for m in reversed(_until_answer(row)) if m["role"] == "user"), "")


def _exact_rate(answers: Sequence[str], rows: Sequence[Row]) -> float:
    exact = sum(answer == _expected(row) for answer, row in zip(answers, rows, strict=True))
    return exact / len(rows) if rows else math.nan
