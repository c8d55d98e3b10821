"""Chat fine-tuning: a causal language model trained with loss on the assistant's messages only."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from windlass.domain.training_report import ChatSample
from windlass_pipelines.rows import Row, is_target
from windlass_pipelines.train.batches import EncodedExample, length_sorted_batches
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.models import load_causal_lm, load_tokenizer, max_positions
from windlass_pipelines.train.result import TrainingError
from windlass_pipelines.train.tasks import EvaluationResult, TensorBatch, to_device
from windlass_pipelines.train.tasks.conversations import IGNORE_INDEX, ConversationEncoder
from windlass_pipelines.train.tasks.generation import generate
from windlass_pipelines.train.tasks.packing import pack

_EVAL_BATCH_SIZE = 16
_BASELINE_ROWS = 16
"""Rows that the untuned model answers, for a comparison in the report."""
_MAX_SAMPLES = 20


class ChatTask:
    """Rows are ``{"messages": [{"role", "content"}, ...]}``."""

    labels: tuple[str, ...] = ()

    def __init__(self, base_model: Path, max_length: int, max_new_tokens: int, *, packing: bool) -> None:
        self._tokenizer = load_tokenizer(base_model)
        self._encoder = ConversationEncoder(self._tokenizer)
        self._max_length, self._max_new_tokens, self._packing = max_length, max_new_tokens, packing

    def load(self, folder: Path) -> nn.Module:
        """Return the language model with a generation config for greedy decoding that stops at the end of a turn."""
        model: Any = load_causal_lm(folder)
        kind = type(model.generation_config)
        model.generation_config = kind(
            eos_token_id=sorted(self._encoder.eos_token_ids), pad_token_id=self._tokenizer.pad_token_id, do_sample=False
        )
        typed_model: nn.Module = model
        return typed_model

    def encode(self, rows: Sequence[Row]) -> tuple[list[EncodedExample], int]:
        """Tokenize, set the targets and truncate to ``max_length`` tokens.

        Raises:
            TrainingError: ``nothing_to_learn``: no answer begins within ``max_length`` tokens.
        """
        full = [self._encoder.encode(row["messages"]) for row in rows]
        examples = [EncodedExample(e.ids[: self._max_length], e.targets[: self._max_length]) for e in full]
        if rows and not any(example.weight for example in examples):
            raise TrainingError(
                "nothing_to_learn",
                f"no row has an answer that begins within training.max_length = {self._max_length} tokens",
            )
        return examples, sum(len(example.ids) > self._max_length for example in full)

    def prepare_examples(self, examples: Sequence[EncodedExample]) -> list[EncodedExample]:
        """Pack the examples when the job enables packing."""
        return pack(examples, self._max_length) if self._packing else list(examples)

    def collate(self, examples: Sequence[EncodedExample]) -> TensorBatch:
        """Pad on the right.

        ``input_ids`` and ``targets`` have shape (rows, tokens). ``logits_to_keep`` has the indices whose next token is
        a target in any row. Packed rows have ``position_ids``, in which the padding is one more document; others have
        ``attention_mask``.
        """
        longest = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), longest), self._tokenizer.pad_token_id, dtype=np.int64)
        targets = np.full_like(ids, IGNORE_INDEX)
        position_ids = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, example in enumerate(examples):
            length = len(example.ids)
            ids[row, :length], targets[row, :length], mask[row, :length] = example.ids, example.targets, 1
            if example.positions is not None:
                position_ids[row, :length] = example.positions
            position_ids[row, length:] = np.arange(longest - length)
        logits_to_keep = np.flatnonzero((targets[:, 1:] >= 0).any(axis=0))
        batch = {"input_ids": ids, "targets": targets, "logits_to_keep": logits_to_keep}
        batch |= {"attention_mask": mask} if examples[0].positions is None else {"position_ids": position_ids}
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the cross-entropy of the next tokens, summed over the targets; computes only the logits it needs."""
        kept = batch["logits_to_keep"]
        context = {name: batch[name] for name in ("attention_mask", "position_ids") if name in batch}
        # with a KV cache, the attention would not separate packed documents
        logits = model(input_ids=batch["input_ids"], use_cache=False, logits_to_keep=kept, **context).logits
        targets = batch["targets"][:, kept + 1]
        return functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
        )

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the negative loss."""
        return -scores["loss"]

    def validate(
        self, model: nn.Module, examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> dict[str, float]:
        """Return loss and perplexity per answer token."""
        total = torch.zeros(2, dtype=torch.float64)
        with torch.inference_mode():
            for rows in length_sorted_batches([len(example.ids) for example in examples], _EVAL_BATCH_SIZE)[
                dist.rank :: dist.world_size
            ]:
                batch_examples = [examples[i] for i in rows]
                total[0] += self.loss(model, to_device(self.collate(batch_examples), dist.device)).double().cpu()
                total[1] += sum(example.weight for example in batch_examples)
        loss, weight = dist.all_reduce_sum(total).tolist()
        mean = loss / weight if weight else math.nan
        return {"loss": mean, "perplexity": math.exp(mean) if mean < 700 else math.inf}  # noqa: PLR2004 - exp overflows

    def evaluate_baseline(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> EvaluationResult | None:
        """Return the base model's perplexity and its answers to the first rows."""
        scores = self.validate(model, examples, dist)
        answered_rows, _ = self._answerable(model, rows)
        baseline_rows = answered_rows[:_BASELINE_ROWS]
        answers = self._generate_answers(model, baseline_rows, dist)
        metrics = {"eval_loss": scores["loss"], "perplexity": scores["perplexity"]}
        if len(baseline_rows) == len(answered_rows):
            metrics["exact_answer_rate"] = _exact_match_rate(answers, baseline_rows)
        return EvaluationResult(metrics=metrics, answers=answers)

    def evaluate(
        self,
        model: nn.Module,
        rows: Sequence[Row],
        examples: Sequence[EncodedExample],
        dist: DistributedContext,
        baseline: EvaluationResult | None,
    ) -> EvaluationResult:
        """Return perplexity, the share of rows whose last answer is generated exactly, and samples."""
        scores = self.validate(model, examples, dist)
        rows, unanswered = self._answerable(model, rows)
        answers = self._generate_answers(model, rows, dist)
        baseline_answers = baseline.answers if baseline else ()
        samples = tuple(
            ChatSample(
                prompt=_last_user_message(row),
                expected=_expected_answer(row),
                before=baseline_answers[i] if i < len(baseline_answers) else None,
                after=answers[i],
                exact=answers[i] == _expected_answer(row),
            )
            for i, row in enumerate(rows[:_MAX_SAMPLES])
        )
        metrics = {
            "perplexity": scores["perplexity"],
            "exact_answer_rate": _exact_match_rate(answers, rows),
            "eval_loss": scores["loss"],
        }
        return EvaluationResult(metrics=metrics, samples=samples, answers=answers[:_MAX_SAMPLES], unanswered=unanswered)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights, configuration, generation settings and tokenizer with its chat template."""
        target: Any = model
        target.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _answerable(self, model: nn.Module, rows: Sequence[Row]) -> tuple[list[Row], int]:
        """Return the rows whose prompt can be answered, and the number of the others.

        A prompt is at most ``max_length`` tokens, as in training, and leaves room for the answer in the model's
        positions.
        """
        limit = max_positions(model, self._tokenizer)
        longest = self._max_length if limit is None else min(self._max_length, limit - self._max_new_tokens)
        answerable = [row for row in rows if len(self._encoder.encode_prompt(_prompt_messages(row))) <= longest]
        return answerable, len(rows) - len(answerable)

    def _generate_answers(self, model: nn.Module, rows: Sequence[Row], dist: DistributedContext) -> tuple[str, ...]:
        if not rows:
            return ()
        prompts = [self._encoder.encode_prompt(_prompt_messages(row)) for row in rows]
        ids = generate(
            model,
            prompts,
            dist,
            max_new_tokens=self._max_new_tokens,
            eos_token_ids=self._encoder.eos_token_ids,
            pad_token_id=int(self._tokenizer.pad_token_id),
        )
        return tuple(self._encoder.decode(answer) for answer in ids)


def _last_answer_index(row: Row) -> int:
    messages = row["messages"]
    return max(i for i, message in enumerate(messages) if is_target(message))


def _prompt_messages(row: Row) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = row["messages"][: _last_answer_index(row)]
    return messages


def _expected_answer(row: Row) -> str:
    return str(row["messages"][_last_answer_index(row)]["content"]).strip()


def _last_user_message(row: Row) -> str:
    return next((str(m["content"]) for m in reversed(_prompt_messages(row)) if m["role"] == "user"), "")


def _exact_match_rate(answers: Sequence[str], rows: Sequence[Row]) -> float:
    exact = sum(answer == _expected_answer(row) for answer, row in zip(answers, rows, strict=True))
    return exact / len(rows) if rows else math.nan
