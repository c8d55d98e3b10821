"""Hostile files in the real data process: it exits in bounded memory with a finding."""

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from windlass.domain.datasets import DataResult

pytestmark = pytest.mark.processes
MB = 1 << 20
TEXTUAL = 400  # MB of resident memory for formats that are read by line; the libraries alone take 150


def run(folder: Path, name: str, *, reading: int | None = None, **fields: Any) -> tuple[DataResult, float]:
    """Run the process on ``folder/name``; return its result and its peak resident memory in MB.

    ``reading`` overrides the address space limit while files are read, in bytes.
    """
    request_file = folder / "request.json"
    data_request = {
        "operation": "ingest",
        "task": "text-classification",
        "options": {},
        "inputs": [((folder / name).as_uri(), None)],
        "names": [name],
        "output": (folder / "out").as_uri(),
        **fields,
    }
    request_file.write_text(json.dumps(data_request))
    command = [sys.executable, "-m", "windlass_pipelines.data", str(request_file)]
    if reading is not None:
        code = (
            "import sys; from windlass_pipelines.data import __main__, limits;"
            "limits.READING_SPACE = int(sys.argv[1]); sys.exit(__main__.main(sys.argv[2:]))"
        )
        command = [sys.executable, "-c", code, str(reading), str(request_file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    peak = 0.0
    while process.poll() is None:
        try:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss / MB)
            process.wait(0.02)
        except (subprocess.TimeoutExpired, psutil.NoSuchProcess):
            continue
    _, output = process.communicate()
    assert process.returncode == 0, output
    return DataResult.model_validate_json((folder / "result.json").read_bytes()), peak


def codes(result: DataResult) -> set[str]:
    return {finding.code for finding in result.report.errors}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_line_of_one_gigabyte_is_rejected(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        stream.write(b"text,label\nfirst,a\n" if name == "rows.csv" else b'{"text": "first", "label": "a"}\n')
        stream.truncate(1024 * MB)  # a sparse file reads as zeros and takes no disk space
    result, peak = run(tmp_path, name)
    assert codes(result) == {"line-too-long"}
    assert peak < TEXTUAL


def test_a_gzip_bomb_is_rejected(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = packer.compress(b"y" * (8 * MB))
    with (tmp_path / "rows.csv.gz").open("wb") as stream:
        stream.write(block + b"".join(packer.compress(b"y" * (8 * MB)) for _ in range(31)) + packer.flush())
    assert (tmp_path / "rows.csv.gz").stat().st_size < MB
    result, peak = run(tmp_path, "rows.csv.gz", max_bytes=64 * MB)
    assert codes(result) == {"too-large"}
    assert peak < TEXTUAL


def test_a_parquet_file_with_one_long_value_in_many_rows_is_rejected(tmp_path: Path) -> None:
    indices = pa.array([0] * 2_000_000, pa.int32())
    text = pa.DictionaryArray.from_arrays(indices, pa.array(["y" * 3_000_000]))
    label = pa.DictionaryArray.from_arrays(indices, pa.array(["a"]))
    pq.write_table(pa.table({"text": text, "label": label}), tmp_path / "rows.parquet", store_schema=False)
    assert (tmp_path / "rows.parquet").stat().st_size < MB
    result, peak = run(tmp_path, "rows.parquet", max_bytes=64 * MB)
    assert codes(result) == {"too-large"}
    assert peak < TEXTUAL


def test_a_parquet_file_with_huge_pages_is_rejected(tmp_path: Path) -> None:
    """A page is decompressed as a whole, so the address space limit applies; it is lowered for the test."""
    table = pa.table({"text": ["z" * (200 * MB)], "label": ["a"]})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd", use_dictionary=False)
    assert (tmp_path / "rows.parquet").stat().st_size < MB
    result, peak = run(tmp_path, "rows.parquet", reading=128 * MB)
    assert codes(result) == {"needs-too-much-memory"}
    assert peak < TEXTUAL


def test_a_million_findings_are_summarised(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"text,label\n" + b"x\n" * 999_999 + b"x")
    result, peak = run(tmp_path, "rows.csv")
    assert sum(finding.count for finding in result.report.errors) == 1_000_000
    assert len(result.report.errors) < 50
    assert peak < TEXTUAL


def test_an_endless_csv_record_is_rejected(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("wb") as stream:
        stream.write(b"text,label\n")
        for _ in range(64):
            stream.write(b'"\n",' * (MB // 4))
    result, peak = run(tmp_path, "rows.csv")
    assert codes(result) == {"broken-quotes"}
    assert peak < TEXTUAL


def test_the_process_limits_itself(tmp_path: Path) -> None:
    (tmp_path / "limits.py").write_text(
        "import os, resource, sys\n"
        "from windlass_pipelines.data import limits\n"
        "limits.apply_limits(1000, address_space=1 << 28, cpu_seconds=1)\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "try: bytearray(1 << 29)\n"
        "except MemoryError: print('memory')\n"
        "try: open(sys.argv[1], 'wb', 0).write(b'x' * 1000 + b'y'); os.truncate(sys.argv[1], 2000)\n"
        "except OSError as error: print(error.errno)\n"
        "try:\n    while True: sum(range(1000))\n"
        "except limits.CpuTimeError: print('time')\n"
    )
    command = [sys.executable, str(tmp_path / "limits.py"), str(tmp_path / "long")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["memory", "27", "time"], done.stderr


def test_the_process_output_contains_no_row_content(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"operation": "hunter2"}')
    command = [sys.executable, "-m", "windlass_pipelines.data", str(tmp_path / "request.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "hunter2" in done.stdout + done.stderr) == (2, False)
    assert subprocess.run(command[:-1], capture_output=True, check=False).returncode == 2
