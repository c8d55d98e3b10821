"""The parsers of what others send, each with the only errors that it may raise."""

import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from tests.fakes.harness import ControlPlaneHarness

from windlass.cli.specs import load_document, parse_assignments, parse_duration
from windlass.dataset_files.findings import FileFindings, Findings
from windlass.dataset_files.opening import TextFile
from windlass.dataset_files.streams import Budget, UnreadableError
from windlass.domain.artifacts import Manifest, check_relative_path
from windlass.domain.errors import (
    BadRequestError,
    ChecksumMismatchError,
    InvalidError,
    PreconditionFailedError,
    UnauthenticatedError,
    WindlassError,
)
from windlass.domain.ingest import FileFormat, IngestOptions
from windlass.domain.reports import ReportBatch
from windlass.domain.specs import Gate, JobSpec
from windlass.kit.numbers import parse_size
from windlass.kube.jobs.pod_spec import millicpus
from windlass.kube.kueue.models import parse_quantity
from windlass.kube.preflight.kueue_configuration import check_kueue_configuration
from windlass.services.idempotency import Idempotency
from windlass.services.job_log import drop_partial_character
from windlass.wire.problems import error_from_response
from windlass_api.dependencies import (
    content_length,
    decode_cursor,
    decode_number,
    encode_cursor,
    if_match,
    parse_last_event_id,
)
from windlass_pipelines.code_scan import check_content
from windlass_pipelines.data.parquet import open_parquet
from windlass_pipelines.train.model_files import find_gguf

CORPUS = Path(__file__).parent / "corpus"
ROW_LIMITS = 10_000, 1000, 500
"""Bytes, rows and the longest text of a budget: inputs here are small."""
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class Parser:
    """A parser with its corpus, ``corpus/<name>``.

    ``fragments`` are put into the inputs: what the grammar is made of.
    """

    name: str
    parse: Callable[[bytes], None]
    fragments: tuple[bytes, ...]
    examples: int = 60

    @property
    def corpus(self) -> list[bytes]:
        """The inputs in the tree: valid ones, and those that have once broken the parser."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]


def _text_file(file_format: FileFormat) -> Callable[[bytes], None]:
    def parse(content: bytes) -> None:
        findings = Findings()
        for name in ("rows", "rows.gz"):
            file = TextFile(name, io.BytesIO(content), IngestOptions(), Budget(*ROW_LIMITS))
            with suppress(UnreadableError):
                table = file.open(file_format, FileFindings(findings, name))
                for line, row in table.read(frozenset(table.columns)):
                    assert line >= 0
                    json.dumps(row, allow_nan=False, default=str)

    return parse


def _parquet(content: bytes) -> None:
    findings = FileFindings(Findings(), "rows")
    with suppress(UnreadableError):
        table = open_parquet(io.BytesIO(content), Budget(*ROW_LIMITS), findings)
        assert all(number >= 0 for number, _ in table.read(frozenset(table.columns)))


def _in_file(name: str, check: Callable[[Path], object]) -> Callable[[bytes], None]:
    def parse(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            with suppress(InvalidError):
                check(path)

    return parse


def _check_safetensors(path: Path) -> None:
    """What the importer does, with numpy instead of torch."""
    check_content(path)
    with suppress(SafetensorError, OSError), safe_open(path, framework="numpy") as stream:
        for name in stream.keys():  # noqa: SIM118 - not a dict
            assert all(size >= 0 for size in stream.get_slice(name).get_shape())


def _yaml(content: bytes) -> None:
    text = content.decode("latin-1")
    with suppress(InvalidError):
        parse_assignments([f"training.seed={text}"])


def _spec(path: Path) -> None:
    document = load_document(path)
    with suppress(ValidationError):
        JobSpec.model_validate(document)


def _text(*parsers: Callable[[str], object]) -> Callable[[bytes], None]:
    """A parser of a header or an argument; the server decodes headers as Latin-1."""

    def parse(content: bytes) -> None:
        text = content.decode("latin-1")
        for each in parsers:
            with suppress(BadRequestError, PreconditionFailedError, InvalidError, ValueError):
                each(text)

    return parse


def _cursor(content: bytes) -> None:
    text = content.decode("latin-1")
    for decode in (decode_cursor, decode_number):
        with suppress(BadRequestError):
            key = decode(text)
            assert key is not None
            assert decode(encode_cursor(key)) == key


def _number_header(text: str) -> None:
    for number in (parse_last_event_id(text), if_match(text)):
        assert number is None or 0 <= number <= MAX_INT64


def _content_length(text: str) -> None:
    assert 0 <= content_length(text) <= MAX_INT64


def _quantity(text: str) -> None:
    assert abs(parse_quantity(text)) <= MAX_INT64


@cache
def _harness() -> ControlPlaneHarness:
    return ControlPlaneHarness(Path(tempfile.mkdtemp(prefix="windlass-fuzz-")))


def _tokens(content: bytes) -> None:
    text, access = content.decode("latin-1"), _harness().access_control
    attempts: list[Callable[[], object]] = [
        lambda: access.authenticate(text),
        lambda: access.authenticate_run("run_" + "0" * 26, text),
        lambda: access.authenticate_transfer(text),
        lambda: access.authenticate_warm_trainer("ours", "w", text),
    ]
    for attempt in attempts:
        try:
            attempt()
        except UnauthenticatedError:
            continue
        raise AssertionError(f"accepted {text!r}")


def _idempotency_key(content: bytes) -> None:
    text = content.decode("latin-1")
    first = Idempotency.of("POST /v1/projects/ours/jobs", text, content)
    assert first == Idempotency.of("POST /v1/projects/ours/jobs", text, content)


def _reports(content: bytes) -> None:
    with suppress(ValidationError):
        batch = ReportBatch.model_validate_json(content)
        assert ReportBatch.model_validate_json(batch.model_dump_json()) == batch


def _manifest(content: bytes) -> None:
    with suppress(ChecksumMismatchError):
        for path in Manifest.read(io.BytesIO(content), "folder").files:
            check_relative_path(path)
            assert not Path(path).is_absolute()
            assert ".." not in Path(path).parts


def _log_chunk(content: bytes) -> None:
    kept = drop_partial_character(content)
    assert content.startswith(kept)
    assert len(content) - len(kept) < 4
    valid = content.decode(errors="ignore").encode()
    for end in range(max(0, len(valid) - 4), len(valid)):
        drop_partial_character(valid[:end]).decode()


def _problem(content: bytes) -> None:
    for status in (400, 404, 429, 503, 599):
        assert isinstance(error_from_response(status, content), WindlassError)


def _kueue_configuration(content: bytes) -> None:
    data = {"controller_manager_config.yaml": content.decode("latin-1")}
    check_kueue_configuration({"metadata": {"name": "kueue-manager-config"}, "data": data})


_GATE: TypeAdapter[Gate] = TypeAdapter(Gate)
_JSON = (b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"1e999", b"-0", b"\\ud800", b"\\u0000", b"NaN")
_LINES = (b'"', b"\r", b"\n", b"\t", b";", b",", b"|", b"\0", b"\xff", b"\\", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b")
_NUMBERS = (b"0", b"-", b"+", b"9" * 30, b"e", b"E", b".", b"\xb2", b" ", b"_", b"m", b"Ki", b"k", b"e99999999", b"\0")
_BYTES = (b"\0" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\x04", b"PAR1", b"GGUF", b"{}", b"PK\x03\x04")
_YAML = (b"&a ", b"*a", b"!!int ", b"!!binary ", b"!!timestamp ", b"2026-13-45", b"? ", b"- ", b": ", b"<<: ", b"\n ")

PARSERS = (
    Parser("csv", _text_file(FileFormat.CSV), _LINES),
    Parser("tsv", _text_file(FileFormat.TSV), _LINES, examples=30),
    Parser("jsonl", _text_file(FileFormat.JSONL), (*_JSON, b"\n", b"\r")),
    Parser("json", _text_file(FileFormat.JSON), (*_JSON, b"\n")),
    Parser("parquet", _parquet, _BYTES, examples=150),
    Parser("safetensors", _in_file("model.safetensors", _check_safetensors), (*_BYTES, *_JSON)),
    Parser("gguf", _in_file("model.gguf", find_gguf), _BYTES, examples=30),
    Parser("model-json", _in_file("config.json", check_content), _JSON),
    Parser("yaml", _yaml, (*_YAML, *_JSON)),
    Parser("spec", _in_file("job.yaml", _spec), (*_YAML, *_JSON)),
    Parser("kueue-configuration", _kueue_configuration, (*_YAML, *_JSON), examples=30),
    Parser("cursor", _cursor, (b"=", b"-", b"_", b"+", b"/", b"\0", b"AA", b"\xff")),
    Parser("etag", _text(_number_header, _content_length), (*_NUMBERS, b'"', b"W/")),
    Parser("token", _tokens, (b"wlk_", b"wlr_", b"wlt_", b"wlw_", b"_", b".", b"=", b"\0", b"\xff", b"e30")),
    Parser("idempotency-key", _idempotency_key, (b"\0", b"\xff", b" ", b"\n"), examples=30),
    Parser("quantity", _text(_quantity, millicpus, parse_size, parse_duration), _NUMBERS, examples=200),
    Parser("gate", _text(_GATE.validate_python), (*_NUMBERS, b">=", b"<", b"beats_baseline")),
    Parser("reports", _reports, _JSON),
    Parser("manifest", _manifest, (*_JSON, b"../", b"/", b"\\\\", b"./")),
    Parser("log-chunk", _log_chunk, (b"\xf0\x9f\x98\x80", b"\xe2\x82", b"\xc3", b"\x80", b"\xff", b"\n", b"a")),
    Parser("problem", _problem, _JSON, examples=30),
)
