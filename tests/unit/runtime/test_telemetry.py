"""The lines of the log."""

import json
import logging
import sys

from windlass.telemetry import JsonLines


def line_of(**changes: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "windlass", "levelname": "ERROR", "created": 0.5} | changes)
    text = JsonLines().format(record)
    assert "\n" not in text, "one record, one line"
    found: dict[str, object] = json.loads(text)
    return found


def test_a_record_is_one_object_with_what_the_call_gave() -> None:
    assert line_of(msg="run %s\nfailed", args=("r1",), job="job_1", seconds=2, _mark=1) == {
        "timestamp": "1970-01-01T00:00:00.500+00:00",
        "level": "error",
        "logger": "windlass",
        "event": "run r1\nfailed",
        "job": "job_1",
        "seconds": 2,
    }


def test_an_exception_is_told_with_its_trace() -> None:
    try:
        int("two lines")
    except ValueError:
        said = line_of(msg="crash", exc_info=sys.exc_info())
    assert "ValueError: invalid literal" in str(said["exception"])


def test_what_json_does_not_know_is_text() -> None:
    assert line_of(msg="crash", where={1, 2}.__class__)["where"] == "<class 'set'>"
