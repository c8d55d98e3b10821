"""The user code of the bare RayJob: one optimizer step of a small encoder under Ray Train; prints when it happened."""

import json
import time

from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer


def train() -> float:
    """Do one step, and return the time after it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=1000
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters())
    rows = torch.randint(0, 1000, (8, 32))
    model(input_ids=rows, labels=torch.zeros(8, dtype=torch.long)).loss.backward()
    optimizer.step()
    return time.time()


if __name__ == "__main__":
    trainer = TorchTrainer(train, scaling_config=ScalingConfig(num_workers=1))
    print(json.dumps({"first_step": trainer.fit().return_value}), flush=True)  # noqa: T201 - read by the benchmark
