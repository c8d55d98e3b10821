"""Text classification: an encoder with a head over the labels of the training rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from windlass.domain.training_report import ClassScore, ConfusionMatrix, Mistake
from windlass_pipelines.rows import Row
from windlass_pipelines.train.batches import EncodedExample, length_sorted_batches
from windlass_pipelines.train.distributed import DistributedContext
from windlass_pipelines.train.models import load_classifier, load_tokenizer
from windlass_pipelines.train.result import TrainingError
from windlass_pipelines.train.tasks import EvaluationResult, TensorBatch, to_device
from windlass_pipelines.train.tasks.scores import class_scores, classification_metrics, log_softmax

_EVAL_BATCH_SIZE = 64
_MAX_MISTAKES = 50


class TextClassificationTask:
    """Rows are ``{"text", "label"}``."""

    def __init__(self, base_model: Path, labels: tuple[str, ...], max_length: int) -> None:
        self.labels = labels
        self._label_indices = {label: number for number, label in enumerate(labels)}
        self._tokenizer = load_tokenizer(base_model)
        self._max_length = max_length

    @classmethod
    def from_rows(cls, base_model: Path, rows: Sequence[Row], max_length: int) -> "TextClassificationTask":
        """Create the task with the labels of the training rows, in alphabetical order.

        Raises:
            TrainingError: ``too_few_labels``.
        """
        labels = tuple(sorted({row["label"] for row in rows}))
        if len(labels) < 2:  # noqa: PLR2004 - one label needs no classifier
            raise TrainingError("too_few_labels", f"the train split has {len(labels)} label; classification needs two")
        return cls(base_model, labels, max_length)

    def load(self, folder: Path) -> nn.Module:
        """Return the encoder with a head for the labels."""
        return load_classifier(folder, self.labels)

    def encode(self, rows: Sequence[Row]) -> tuple[list[EncodedExample], int]:
        """Tokenize the texts.

        Raises:
            TrainingError: ``unknown_label``: a held-out row has a label that is not in the train split.
        """
        unknown = sorted({row["label"] for row in rows} - self._label_indices.keys())
        if unknown:
            raise TrainingError("unknown_label", f"label {unknown[0]!r} is in a held-out split and not in train")
        if not rows:
            return [], 0
        texts = [str(row["text"]) for row in rows]
        # special tokens typed in a text are ordinary text, as in serving
        encoded = self._tokenizer(texts, truncation=False, split_special_tokens=True, verbose=False)["input_ids"]
        truncated = sum(len(ids) > self._max_length for ids in encoded)
        if truncated:
            # the tokenizer truncates, because slicing would drop the special tokens at the end
            encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length, split_special_tokens=True)[
                "input_ids"
            ]
        targets = [self._label_indices[row["label"]] for row in rows]
        return [
            EncodedExample(np.asarray(ids, dtype=np.int32), np.asarray([target], dtype=np.int64))
            for ids, target in zip(encoded, targets, strict=True)
        ], truncated

    def prepare_examples(self, examples: Sequence[EncodedExample]) -> list[EncodedExample]:
        """Return the examples unchanged."""
        return list(examples)

    def collate(self, examples: Sequence[EncodedExample]) -> TensorBatch:
        """Pad on the right. ``input_ids`` and ``attention_mask`` are (rows, tokens), ``labels`` is (rows,)."""
        longest = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), longest), self._tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = example.ids
            mask[row, : len(example.ids)] = 1
        labels = np.concatenate([example.targets for example in examples])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
        }

    def loss(self, model: nn.Module, batch: TensorBatch) -> Tensor:
        """Return the summed cross-entropy."""
        return functional.cross_entropy(_logits(model, batch).float(), batch["labels"], reduction="sum")

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the weighted F1."""
        return scores["weighted_f1"]

    def validate(
        self, model: nn.Module, examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> dict[str, float]:
        """Return loss, accuracy and F1."""
        scores = classification_metrics(*self._predict(model, examples, dist))
        reported = ("accuracy", "weighted_f1", "macro_f1")
        return {"loss": scores["eval_loss"]} | {name: scores[name] for name in reported}

    def evaluate_baseline(
        self, model: nn.Module, rows: Sequence[Row], examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> EvaluationResult | None:
        """Return None: the head is untrained."""
        del model, rows, examples, dist
        return None

    def evaluate(
        self,
        model: nn.Module,
        rows: Sequence[Row],
        examples: Sequence[EncodedExample],
        dist: DistributedContext,
        baseline: EvaluationResult | None,
    ) -> EvaluationResult:
        """Return overall and per-class scores, the confusion matrix and the mistakes with the highest loss."""
        del baseline
        logits, true_labels = self._predict(model, examples, dist)
        scores = class_scores(true_labels, logits.argmax(axis=1), len(self.labels))
        return EvaluationResult(
            metrics=classification_metrics(logits, true_labels),
            classes={
                label: ClassScore(
                    precision=float(scores.precision[i]),
                    recall=float(scores.recall[i]),
                    f1=float(scores.f1[i]),
                    support=int(scores.support[i]),
                )
                for i, label in enumerate(self.labels)
            },
            confusion=ConfusionMatrix(labels=self.labels, counts=tuple(map(tuple, scores.confusion.tolist()))),
            mistakes=self._mistakes(rows, logits, true_labels),
        )

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write weights, configuration and tokenizer."""
        target: Any = model
        target.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _predict(
        self, model: nn.Module, examples: Sequence[EncodedExample], dist: DistributedContext
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return logits (rows, labels) and true labels (rows,), in row order."""
        logits = torch.zeros(len(examples), len(self.labels))
        with torch.inference_mode():
            for rows in length_sorted_batches([len(example.ids) for example in examples], _EVAL_BATCH_SIZE)[
                dist.rank :: dist.world_size
            ]:
                batch = to_device(self.collate([examples[i] for i in rows]), dist.device)
                logits[torch.from_numpy(rows.copy())] = _logits(model, batch).float().cpu()
        true_labels = np.concatenate([example.targets for example in examples])
        return dist.all_reduce_sum(logits).double().numpy(), true_labels

    def _mistakes(
        self, rows: Sequence[Row], logits: NDArray[np.float64], true_labels: NDArray[np.int64]
    ) -> tuple[Mistake, ...]:
        log_probabilities = log_softmax(logits)
        predicted_labels = logits.argmax(1)
        wrong_rows = np.flatnonzero(predicted_labels != true_labels)
        losses = -log_probabilities[wrong_rows, true_labels[wrong_rows]]
        return tuple(
            Mistake(
                text=str(rows[i]["text"]),
                expected=self.labels[true_labels[i]],
                predicted=self.labels[predicted_labels[i]],
                confidence=float(np.exp(log_probabilities[i, predicted_labels[i]])),
                loss=float(-log_probabilities[i, true_labels[i]]),
            )
            for i in wrong_rows[np.argsort(-losses, kind="stable")][:_MAX_MISTAKES]
        )


def _logits(model: nn.Module, batch: TensorBatch) -> Tensor:
    logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits
