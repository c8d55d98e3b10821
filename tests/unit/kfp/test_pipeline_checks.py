"""What `windlass doctor --cluster` says about the settings of a Kubeflow Pipelines server."""

import pytest

from windlass.domain.checks import CheckState
from windlass_api import preflight


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("BACKEND", "kubeflow", "backend: Input should be"), ("KFP_HOST", "127.0.0.1:9", "kfp_host: String should match")],
)
def test_a_wrong_setting_is_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(f"WINDLASS_PIPELINES_{name}", value)
    [found] = preflight._pipeline_checks()
    assert (found.check, found.state) == ("pipelines", CheckState.FAILED)
    assert problem in found.result
    assert "WINDLASS_PIPELINES_" in found.action
