"""``report.json``: its format version, and numbers that JSON cannot hold."""

import json
import math

import pytest
from tests.unit.report.report_samples import reviews

from windlass.domain.errors import InvalidError
from windlass.domain.training_report import KeptWeights, parse_report


def test_a_report_is_the_same_after_it_was_written_and_read() -> None:
    report = reviews()
    content = report.model_dump_json().encode()
    assert json.loads(content)["format"] == 1
    assert parse_report(content) == report


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    update = {
        "curves": {"eval_loss": ((1, math.nan), (2, math.inf), (3, 0.5))},
        "kept": KeptWeights(step=3, loss=0.5, last_loss=math.nan),
    }
    content = reviews().model_copy(update=update).model_dump_json().encode()
    assert json.loads(content, parse_constant=pytest.fail)["curves"]["eval_loss"] == [[1, None], [2, None], [3, 0.5]]
    read = parse_report(content)
    assert [math.isnan(value) for _, value in read.curves["eval_loss"]] == [True, True, False]
    assert read.kept is not None
    assert math.isnan(read.kept.last_loss)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": 2, "new": true}', "report.json has format 2; this version of windlass reads format 1"),
        (b'{"model": "m"}', "report.json has format None"),
        (b"[]", "report.json has format None"),
        (b"{", "report.json is not JSON"),
        (b'{"format": 1}', "report.json is invalid: project: Field required"),
    ],
)
def test_another_format_and_damaged_content_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        parse_report(content)
