"""JSON log lines."""

import json
import logging
import subprocess
import sys

from windlass.telemetry import JsonLines


def line_of(**changes: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "windlass", "levelname": "ERROR", "created": 0.5} | changes)
    text = JsonLines().format(record)
    assert "\n" not in text, "one record, one line"
    entry: dict[str, object] = json.loads(text)
    return entry


def test_a_record_is_one_json_object_with_its_extra_fields() -> None:
    assert line_of(msg="run %s\nfailed", args=("r1",), job="job_1", seconds=2, _mark=1) == {
        "timestamp": "1970-01-01T00:00:00.500+00:00",
        "level": "error",
        "logger": "windlass",
        "event": "run r1\nfailed",
        "job": "job_1",
        "seconds": 2,
    }


def test_an_exception_is_logged_with_its_traceback() -> None:
    try:
        int("two lines")
    except ValueError:
        entry = line_of(msg="crash", exc_info=sys.exc_info())
    assert "ValueError: invalid literal" in str(entry["exception"])


def test_values_without_a_json_form_become_text() -> None:
    assert line_of(msg="crash", where={1, 2}.__class__)["where"] == "<class 'set'>"


def test_a_server_logs_its_own_information_and_the_warnings_of_libraries() -> None:
    program = """if True:
        import logging
        from windlass.telemetry import set_up_logging
        set_up_logging()
        for name in ("windlass.kube.client", "windlass_api.worker", "windlass_operators.main", "httpx2", "uvicorn"):
            logging.getLogger(name).debug("debug")
            logging.getLogger(name).info("started")
            logging.getLogger(name).warning("slow")
    """
    process = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    started = [line["logger"] for line in lines if line["event"] == "started"]
    assert started == ["windlass.kube.client", "windlass_api.worker", "windlass_operators.main"]
    assert [line["event"] for line in lines].count("slow") == 5
    assert not any(line["event"] == "debug" for line in lines)
