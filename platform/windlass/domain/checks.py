"""Results of checks of an installation."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class CheckState(StrEnum):
    """Whether a check has found a problem."""

    OK = "ok"
    WARNING = "warning"
    """Something does not work, or may not."""
    FAILED = "failed"
    """Windlass does not work."""


class CheckResult(BaseModel):
    """What a check has found, and what to do about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    state: CheckState
    result: str
    action: str = ""


def passed(check: str, result: str) -> CheckResult:
    """Return the result of a check that has found no problem."""
    return CheckResult(check=check, state=CheckState.OK, result=result)


def warning(check: str, result: str, action: str) -> CheckResult:
    """Return a problem that concerns a part."""
    return CheckResult(check=check, state=CheckState.WARNING, result=result, action=action)


def failed(check: str, result: str, action: str) -> CheckResult:
    """Return a problem without whose solution Windlass does not work."""
    return CheckResult(check=check, state=CheckState.FAILED, result=result, action=action)
