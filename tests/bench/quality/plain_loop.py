"""Fine-tunes an encoder with Transformers, peft and a plain loop: what the product is compared with."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from sklearn.metrics import f1_score
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, get_linear_schedule_with_warmup


@dataclass(frozen=True)
class Settings:
    """The settings of the loop, and of the product in the column *same settings*."""

    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 5e-4
    max_length: int = 64
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    rank: int = 16
    alpha: float = 32.0


class MeanPoolingClassifier(nn.Module):
    """An encoder, the mean of its token vectors, and a linear layer."""

    def __init__(self, encoder: nn.Module, size: int, labels: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(size, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits of shape (rows, labels) from ids and mask of shape (rows, tokens)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        logits: Tensor = self.head((states * mask).sum(1) / mask.sum(1))
        return logits


def weighted_f1(
    base: Path,
    train: Sequence[tuple[str, str]],
    held_out: Sequence[tuple[str, str]],
    settings: Settings,
    seed: int,
) -> float:
    """Train on pairs of text and label and return the weighted F1 on the held-out pairs."""
    torch.manual_seed(seed)
    order = random.Random(seed)
    labels = sorted({label for _, label in train})
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", lora_dropout=0.0)
    encoder = AutoModel.from_pretrained(base)
    model = MeanPoolingClassifier(get_peft_model(encoder, config), encoder.config.hidden_size, len(labels))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    rows, size = list(train), settings.batch_size
    steps = settings.epochs * -(-len(rows) // size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(settings.warmup_ratio * steps), steps)
    model.train()
    for _ in range(settings.epochs):
        order.shuffle(rows)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            target = torch.tensor([labels.index(label) for _, label in batch])
            loss = nn.functional.cross_entropy(model(**_encode(tokenizer, batch, settings)), target)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()
    predicted: list[str] = []
    with torch.no_grad():
        for start in range(0, len(held_out), 64):
            logits = model(**_encode(tokenizer, held_out[start : start + 64], settings))
            predicted += [labels[index] for index in logits.argmax(1).tolist()]
    return float(f1_score([label for _, label in held_out], predicted, average="weighted"))


def _encode(tokenizer: Any, rows: Sequence[tuple[str, str]], settings: Settings) -> dict[str, Tensor]:
    texts = [text for text, _ in rows]
    encoded = tokenizer(texts, truncation=True, max_length=settings.max_length, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}
