"""Imports a base model: ``python -m windlass_pipelines.train.import_model REQUEST.json --work FOLDER``.

The request is an ``ImportRequest``. Its source is a folder with safetensors weights, a folder with one GGUF file, or a
GGUF file. Safetensors, configuration and tokenizer are published. Files that can contain code are refused. FOLDER is
for temporary files, and for ``result.json``: an ``ImportedModel`` or ``{"refused": "reason"}``. With
``--publish-result URI`` the result is also published there; when it is published already, nothing is done.
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
from jinja2 import Environment, TemplateSyntaxError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from windlass.domain.artifacts import Manifest, check_relative_path, sha256_file
from windlass.domain.datasets import tokenizer_label
from windlass.domain.errors import InvalidError, NotFoundError
from windlass.domain.models import ImportedModel, ImportRequest
from windlass.domain.specs import Task
from windlass.kit.files import write_atomic
from windlass.orchestration.task_result import RESULT_NAME, RefusedImport, is_published, publish_result
from windlass.ports import FolderTransfer
from windlass.runtime.artifacts import verify
from windlass.storage.transfers import folder_transfer
from windlass_pipelines.train.model_files import find_gguf, safe_files
from windlass_pipelines.train.models import activations_per_token, load_tokenizer, max_positions
from windlass_pipelines.train.pooling import POOLING_NAME, read_sentence_transformers
from windlass_pipelines.train.result import TrainingError
from windlass_pipelines.train.tasks.conversations import ConversationEncoder

_CPU_SECONDS = 3600
_MEMORY = 4 << 30
"""Bytes of private memory for torch, the tokenizer and its vocabulary, and rendering the chat template."""
_MEMORY_PER_GGUF_BYTE = 24
"""A weight of four bits becomes one of four bytes, and conversion holds up to three copies."""
_PROBE_SECONDS = 20
_MAX_TEMPLATE = 65_536
_MIN_MATCHING_SHARE = 0.9
_log = logging.getLogger(__name__)


def import_model(source: Path, target: str, work: Path, transfer: FolderTransfer) -> ImportedModel:
    """Publish the model at ``target``; one that an interrupted import has published is verified and described.

    Raises:
        InvalidError: the source is refused; the message gives the reason.
    """
    try:
        published = transfer.fetch(target, work / "published")
    except NotFoundError:
        return _publish_new(source, target, work, transfer)
    manifest = verify(published)
    return _imported(_describe(published), manifest)


def _publish_new(source: Path, target: str, work: Path, transfer: FolderTransfer) -> ImportedModel:
    shutil.rmtree(work / "model", ignore_errors=True)
    folder = work / "model"
    folder.mkdir(parents=True)
    try:
        gguf = find_gguf(source)
        if gguf is None:
            for path in safe_files(source):
                shutil.copyfile(path, folder / path.name)
            if (pooling := read_sentence_transformers(source)) is not None:
                (folder / POOLING_NAME).write_text(json.dumps(pooling), encoding="utf-8")
        else:
            from windlass_pipelines.train.gguf_model import convert  # noqa: PLC0415 - most imports do not read GGUF

            convert(gguf, folder)
        description = _describe(folder)
        return _imported(description, transfer.publish(folder, target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _imported(description: dict[str, Any], manifest: Manifest) -> ImportedModel:
    tokenizer = tokenizer_label(manifest.files["tokenizer.json"].sha256)
    return ImportedModel(**description, tokenizer=tokenizer, bytes=manifest.bytes, digest=manifest.digest())


def _describe(folder: Path) -> dict[str, Any]:
    config = _config(folder)
    shapes = _shapes(folder)
    task = _task(config, folder)
    model = _check_fit(config, shapes, task)
    return {
        "tasks": (task,),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "max_positions": max_positions(model, load_tokenizer(folder)),
        "activations_per_token": activations_per_token(model),
    }


def _config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a malicious configuration can raise anything
        raise InvalidError(f"config.json does not describe a supported model: {_one_line(error)}") from error
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
            raise InvalidError(f"{path.name} is not a safetensors file: {_one_line(error)}") from error
    return shapes


def _task(config: Any, folder: Path) -> Task:
    try:
        tokenizer = load_tokenizer(folder)
    except TrainingError as error:
        raise InvalidError(error.message) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a panic of Rust code, which is no Exception
            raise
        raise InvalidError(f"tokenizer.json cannot be loaded: {_one_line(error)}") from error
    kind = config.model_type
    is_causal_lm = any(str(name).endswith("ForCausalLM") for name in config.architectures or ())
    if is_causal_lm and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        _probe_template(tokenizer)
        return Task.CHAT
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return Task.TEXT_CLASSIFICATION
    raise InvalidError(f"no task can be trained on a model of type {kind!r}")


def _probe_template(tokenizer: Any) -> None:
    template = tokenizer.chat_template
    templates = template.values() if isinstance(template, dict) else [template or ""]
    if sum(map(len, templates)) > _MAX_TEMPLATE:
        raise InvalidError(f"the chat template is longer than {_MAX_TEMPLATE} characters")
    if any(_has_power(each) for each in templates if each):
        # a time limit cannot end one long computation of an integer
        raise InvalidError("the chat template uses the operator **, which is refused")
    try:
        with _time_limit(_PROBE_SECONDS):
            ConversationEncoder(tokenizer)
    except TrainingError as error:
        raise InvalidError(error.message) from error
    except TimeoutError as error:
        raise InvalidError(f"the chat template takes longer than {_PROBE_SECONDS} s to render two messages") from error


def _has_power(template: str) -> bool:
    try:
        return any(kind == "operator" and text == "**" for _, kind, text in Environment().lex(template))  # noqa: S701 - nothing is rendered
    except TemplateSyntaxError:
        return False  # rendering reports it


def _check_fit(config: Any, shapes: dict[str, tuple[int, ...]], task: Task) -> nn.Module:
    """Compare weight names and shapes with the configuration; return the model without allocated weights."""
    kind: Any = AutoModelForCausalLM if task is Task.CHAT else AutoModel
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > len(shapes):
        raise InvalidError(
            "the safetensors files do not contain the weights of the model that config.json describes: "
            f"it has {layers} layers, and they have {len(shapes)} weights"
        )
    try:
        with torch.device("meta"):
            model = kind.from_config(config, trust_remote_code=False)
    except Exception as error:  # a malicious configuration can raise anything
        raise InvalidError(f"no model can be built from config.json: {_one_line(error)}") from error
    prefix = f"{model.base_model_prefix}."
    shapes_in_file = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    expected = {name.removeprefix(prefix): tuple(p.shape) for name, p in model.named_parameters()}
    # heads that the task does not use, or that are tied to the embeddings, may be missing; shapes must match
    mismatch = next((name for name, shape in expected.items() if shapes_in_file.get(name, shape) != shape), None)
    if mismatch is not None:
        actual = shapes_in_file[mismatch]
        raise InvalidError(f"weight {mismatch} has shape {actual}, config.json requires {expected[mismatch]}")
    if sum(name in shapes_in_file for name in expected) < _MIN_MATCHING_SHARE * len(expected):
        raise InvalidError("the safetensors files do not contain the weights of the model that config.json describes")
    # A job that loads the model allocates the missing weights too.
    sizes = {name: torch.Size(shape).numel() for name, shape in expected.items()}
    if sum(sizes[name] for name in expected if name in shapes_in_file) < _MIN_MATCHING_SHARE * sum(sizes.values()):
        missing = max((name for name in expected if name not in shapes_in_file), key=lambda name: sizes[name])
        raise InvalidError(f"the files have no weight {missing}, which config.json gives the shape {expected[missing]}")
    built: nn.Module = model
    return built


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def expire(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _limit_resources(source: Path) -> int:
    """Limit CPU time and memory of this process, disable core dumps, and return the memory limit in bytes."""
    gguf = find_gguf(source)
    memory = _MEMORY + (_MEMORY_PER_GGUF_BYTE * gguf.stat().st_size if gguf else 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    return memory


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises a RuntimeError when the allocator of the CPU fails
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def main(argv: list[str] | None = None) -> int:
    """Import a model; returns 0, also when the source is refused."""
    parser = argparse.ArgumentParser(prog="windlass_pipelines.train.import_model", description=__doc__)
    parser.add_argument("request", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--publish-result", metavar="URI", default="")
    arguments = parser.parse_args(argv)
    request = ImportRequest.model_validate_json(arguments.request.read_bytes())
    transfer = folder_transfer()
    if arguments.publish_result and is_published(arguments.publish_result, arguments.work, transfer):
        return 0
    result: ImportedModel | RefusedImport
    try:
        source = Path(request.path) if request.path else fetch_source(request, arguments.work / "source", transfer)
        memory = _limit_resources(source)
        try:
            result = import_model(source, request.target, arguments.work, transfer)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise InvalidError(f"the import needs more than {memory >> 30} GiB of memory") from error
    except InvalidError as error:
        result = RefusedImport(refused=error.message)
    write_atomic(arguments.work / RESULT_NAME, result.model_dump_json())
    if arguments.publish_result:
        publish_result(arguments.work, arguments.publish_result, transfer)
    return 0


def fetch_source(request: ImportRequest, folder: Path, transfer: FolderTransfer) -> Path:
    """Fetch the uploaded files into a folder and return it.

    Raises:
        InvalidError: a file is not what the client declared.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for file in request.files:
        check_relative_path(file.path)
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched = transfer.fetch_file(file.uri, target)
        if sha256_file(fetched) != file.entry:
            raise InvalidError(f"{file.path} has another sha256 or length than declared; upload the model again")
        if fetched != target:  # a store on the same disk returns its own file
            shutil.copyfile(fetched, target)
    return folder


if __name__ == "__main__":
    sys.exit(main())
