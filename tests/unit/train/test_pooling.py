"""Classifiers on sentence encoders read the mean of all tokens, in the standard architecture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.factories.tiny_models import tiny_encoder
from torch.nn.functional import layer_norm
from transformers import AutoModel, AutoModelForSequenceClassification, RobertaConfig, RobertaModel

from windlass.storage.file_transfer import FileTransfer
from windlass_pipelines.train.import_model import import_model
from windlass_pipelines.train.models import load_classifier, load_config, load_tokenizer
from windlass_pipelines.train.pooling import POOLING_NAME, needs_mean_pooling

TEXTS = ["the price is great and the sound is fine", "awful"]


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_the_pooled_vector_is_the_normalized_mean_of_the_tokens_that_are_not_padding(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    batch = load_tokenizer(folder)(TEXTS, padding=True, return_tensors="pt")
    encoder = AutoModel.from_pretrained(folder).eval()
    classifier: Any = load_classifier(folder, ("a", "b")).eval()
    with torch.inference_mode():
        mask = batch["attention_mask"][..., None].float()
        mean = (encoder(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        expected = torch.tanh(0.5 * layer_norm(mean, mean.shape[-1:]))
        pooled = classifier.bert(**batch).pooler_output
    torch.testing.assert_close(pooled, expected, atol=0.02, rtol=0)


def test_a_saved_classifier_is_a_standard_architecture(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path / "encoder")
    classifier: Any = load_classifier(folder, ("a", "b")).eval()
    classifier.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert type(loaded).__name__ == "BertForSequenceClassification"
    batch = load_tokenizer(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(loaded(**batch).logits, classifier(**batch).logits)


def test_roberta_encoders_get_the_same_layer(tmp_path: Path) -> None:
    config = RobertaConfig(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    classifier: Any = load_classifier(tmp_path / "roberta", ("a", "b")).eval()
    encoder = AutoModel.from_pretrained(tmp_path / "roberta").eval()
    ids = torch.tensor([[3, 4, 5, 6, 7, 8]])
    with torch.inference_mode():
        expected = layer_norm(encoder(ids).last_hidden_state.mean(1), (16,))
        torch.testing.assert_close(classifier.roberta(ids).last_hidden_state[:, 0], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "pooler", "modes", "mean"),
    [
        ("BertModel", True, None, True),
        ("BertForMaskedLM", True, None, False),
        ("BertForMaskedLM", False, None, True),
        ("BertForSequenceClassification", True, None, False),
        ("BertModel", True, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, False),
        ("BertForMaskedLM", True, {"pooling_mode_mean_tokens": True}, True),
    ],
)
def test_the_pooling_configuration_or_else_the_checkpoint_decides(
    tmp_path: Path, architecture: str, pooler: bool, modes: dict[str, bool] | None, mean: bool
) -> None:
    source = tiny_encoder(tmp_path / "source")
    (source / "manifest.json").unlink()
    edit_config(source, architectures=[architecture])
    if not pooler:
        weights = load_file(source / "model.safetensors")
        save_file(
            {name: w for name, w in weights.items() if "pooler" not in name},
            source / "model.safetensors",
            metadata={"format": "pt"},
        )
    if modes is not None:
        (source / "1_Pooling").mkdir()
        (source / "1_Pooling/config.json").write_text(json.dumps(modes | {"word_embedding_dimension": 16}))
    target = tmp_path / "imported"
    import_model(source, target.as_uri(), tmp_path / "work", FileTransfer())
    assert (target / POOLING_NAME).exists() == (modes is not None)
    assert needs_mean_pooling(target, load_config(target)) == mean
