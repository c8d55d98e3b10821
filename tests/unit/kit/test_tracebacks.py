"""The exception and its last frame are found in what a process has printed."""

import pytest

from windlass.kit.tracebacks import summarize_traceback

CHAINED = """Traceback (most recent call last):
  File "/a/b/first.py", line 1, in one
    two()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/a/b/second.py", line 22, in three
    raise ValueError(
    ^^^^^^^^^^^^^^^^^
ValueError: bad label: 'x'
done
"""


def error_of(depth: int) -> str:
    return "".join(f'  File "/x/y/m.py", line {number}, in f{number}\n    call()\n' for number in range(depth))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHAINED, "ValueError: bad label: 'x' (b/second.py:22 in three)"),
        (error_of(3) + "AssertionError", "AssertionError (y/m.py:2 in f2)"),
        (error_of(1) + "ray.exceptions.RayTaskError(ValueError): no", None),
        (error_of(1) + "torch.OutOfMemoryError: CUDA out of memory", None),
        (error_of(2), ""),
        ('  File "/x/y/m.py", line 1, in f\n    call()\nnot an exception line: it has spaces', ""),
        ("", ""),
        ("killed\n", ""),
    ],
)
def test_summary(text: str, expected: str | None) -> None:
    summary = summarize_traceback(text)
    if expected is None:
        assert summary is not None
        assert str(summary) == f"{text.splitlines()[-1]} (y/m.py:0 in f0)"
    else:
        assert (str(summary) if summary else "") == expected


def test_the_end_of_a_traceback_may_be_missing() -> None:
    """The last complete traceback is returned."""
    assert str(summarize_traceback(CHAINED + error_of(2))) == "ValueError: bad label: 'x' (b/second.py:22 in three)"
