"""Makes a base model folder from local files: ``python -m windlass_pipelines.train.import_model SOURCE TARGET``.

SOURCE is a folder with safetensors weights, or one with a single GGUF file, or that file. TARGET, which appears whole
or not at all, gets safetensors, configuration, tokenizer and a manifest. Anything that could carry code is refused.
With ``--result FILE`` the outcome is written there: ``{"tasks": [...], "parameters": n}`` or ``{"refused": "why"}``.
"""

import argparse
import json
import logging
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from windlass.domain.artifacts import MANIFEST_NAME
from windlass.domain.errors import InvalidError
from windlass.domain.specs import Task
from windlass.runtime.artifacts import commit, read_manifest, seal, staging, verify
from windlass_pipelines.train.model_files import find_gguf, safe_files
from windlass_pipelines.train.models import load_tokenizer
from windlass_pipelines.train.outcome import TrainingError
from windlass_pipelines.train.tasks.conversations import Conversations

_CPU_SECONDS = 3600
_PROBE_SECONDS = 20
_MAX_TEMPLATE = 65_536
_FITTING_SHARE = 0.9
_log = logging.getLogger(__name__)


def import_model(source: Path, target: Path) -> dict[str, Any]:
    """Make ``target``; returns ``tasks`` and ``parameters``. A target that is there already is checked and described.

    Raises:
        InvalidError: the source is refused; the message says what for.
    """
    if (target / MANIFEST_NAME).exists():
        verify(target, read_manifest(target))
        return _describe(target)
    with staging(target) as folder:
        gguf = find_gguf(source)
        if gguf is None:
            for path in safe_files(source):
                shutil.copyfile(path, folder / path.name)
        else:
            # imported here: it reads GGUF, which most imports do not need
            from windlass_pipelines.train.gguf_model import convert  # noqa: PLC0415 - imported when used: it is slow to load

            convert(gguf, folder)
        described = _describe(folder)
        seal(folder)
        commit(folder, target)
    return described


def _describe(folder: Path) -> dict[str, Any]:
    config = _config(folder)
    shapes = _shapes(folder)
    task = _task(config, folder)
    _check_fit(config, shapes, task)
    return {"tasks": [task.value], "parameters": sum(torch.Size(shape).numel() for shape in shapes.values())}


def _config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a hostile configuration raises what it likes
        raise InvalidError(f"config.json does not describe a model that is known here: {_short(error)}") from error
    if getattr(config, "quantization_config", None):
        raise InvalidError("the weights are quantised; import the unquantised model, or a GGUF file")
    return config


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as stream:
                for name in stream.keys():  # noqa: SIM118 - not a dict
                    shapes[name] = tuple(stream.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise InvalidError(f"{path.name} is not a safetensors file: {_short(error)}") from error
    return shapes


def _task(config: Any, folder: Path) -> Task:
    try:
        tokenizer = load_tokenizer(folder)
    except TrainingError as error:
        raise InvalidError(error.message) from error
    kind = config.model_type
    speaks = any(str(name).endswith("ForCausalLM") for name in config.architectures or ())
    if speaks and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        _probe_template(tokenizer)
        return Task.CHAT
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return Task.TEXT_CLASSIFICATION
    raise InvalidError(f"no task can be trained on a model of type {kind!r}")


def _probe_template(tokenizer: Any) -> None:
    template = tokenizer.chat_template
    if isinstance(template, str) and len(template) > _MAX_TEMPLATE:
        raise InvalidError(f"the chat template is longer than {_MAX_TEMPLATE} characters")
    try:
        with _time_limit(_PROBE_SECONDS):
            Conversations(tokenizer)
    except TrainingError as error:
        raise InvalidError(error.message) from error
    except TimeoutError as error:
        raise InvalidError(f"the chat template takes longer than {_PROBE_SECONDS} s for two messages") from error


def _check_fit(config: Any, shapes: dict[str, tuple[int, ...]], task: Task) -> None:
    """Refuse weights that are not those of the configuration, without allocating them."""
    kind: Any = AutoModelForCausalLM if task is Task.CHAT else AutoModel
    try:
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except Exception as error:  # a hostile configuration raises what it likes
        raise InvalidError(f"no model can be built from config.json: {_short(error)}") from error
    prefix = f"{model.base_model_prefix}."
    known = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    wanted = {name.removeprefix(prefix): tuple(p.shape) for name, p in model.named_parameters()}
    # heads that a task does not use, or that are tied to the embeddings, may be missing; another shape may not
    wrong = next((name for name, shape in wanted.items() if known.get(name, shape) != shape), None)
    if wrong is not None:
        raise InvalidError(f"weight {wrong} has shape {known[wrong]}, config.json wants {wanted[wrong]}")
    if sum(name in known for name in wanted) < _FITTING_SHARE * len(wanted):
        raise InvalidError("the safetensors files do not hold the weights of the model that config.json describes")


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def expire(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main(argv: list[str] | None = None) -> int:
    """Parse arguments, import, tell; returns 0, or 1 when the source is refused."""
    parser = argparse.ArgumentParser(prog="windlass_pipelines.train.import_model", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--result", type=Path)
    arguments = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    try:
        outcome = import_model(arguments.source, arguments.target)
    except InvalidError as error:
        outcome = {"refused": error.message}
    text = json.dumps(outcome)
    if arguments.result is not None:
        draft = arguments.result.with_suffix(".tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(arguments.result)
    sys.stdout.write(text + "\n")
    return 1 if "refused" in outcome else 0


if __name__ == "__main__":
    sys.exit(main())
