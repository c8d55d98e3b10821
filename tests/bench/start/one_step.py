"""The user code of both peers: one optimizer step of a small encoder; prints when it happened.

With ``--plain`` it runs in this process, else under Ray Train.
"""

import json
import sys
import time


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


def under_ray() -> float:
    """Do one step in a process of Ray Train."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(train, scaling_config=ScalingConfig(num_workers=1))
    return float(trainer.fit().return_value)


if __name__ == "__main__":
    step = train() if "--plain" in sys.argv else under_ray()
    print(json.dumps({"first_step": step}), flush=True)  # noqa: T201 - read by the benchmark
