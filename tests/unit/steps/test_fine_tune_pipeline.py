"""The compiled KFP pipeline, and the run result derived from the step statuses."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from windlass.domain.jobs import Reason
from windlass.orchestration.run_result import RunResult
from windlass_pipelines.run import run_result
from windlass_pipelines.steps.progress import StepStatus

DONE = StepStatus(state="succeeded", outcome="succeeded")
RUNNING = StepStatus(state="running")
FAILED = StepStatus(state="failed", message="why")
STOPPED = StepStatus(state="succeeded", outcome="stopped")
CLOSED = StepStatus(state="failed", message="fenced", outcome="stopped")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("ir") / "fine-tune.yaml"
    command = [sys.executable, "-m", "windlass_pipelines.compile", str(path), "--image", "registry.test/steps:1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    specification = yaml.safe_load(path.read_text())
    assert isinstance(specification, dict)
    return specification


def tasks(specification: dict[str, Any]) -> dict[str, Any]:
    dags = [specification["root"], *specification["components"].values()]
    return {name: task for part in dags for name, task in part.get("dag", {}).get("tasks", {}).items()}


def test_the_pipeline_has_three_steps_with_their_conditions(compiled: dict[str, Any]) -> None:
    result = tasks(compiled)
    assert {"train", "register", "deploy"} < result.keys()
    conditions = [task["triggerPolicy"]["condition"] for task in result.values() if "triggerPolicy" in task]
    assert sorted(conditions) == [
        "inputs.parameter_values['pipelinechannel--deploy'] == true",
        "inputs.parameter_values['pipelinechannel--register-Output'] == 'candidate'",
        "inputs.parameter_values['pipelinechannel--train-Output'] == 'succeeded'",
    ]
    assert "train" in compiled["root"]["dag"]["tasks"]
    assert "register" not in compiled["root"]["dag"]["tasks"]


def test_deploy_is_the_only_parameter(compiled: dict[str, Any]) -> None:
    assert list(compiled["root"]["inputDefinitions"]["parameters"]) == ["deploy"]


def test_steps_install_no_packages_and_are_not_cached(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"registry.test/steps:1"}
    for executor in executors:
        assert "pip install" not in " ".join(executor["container"]["command"])
    steps = [task for name, task in tasks(compiled).items() if name in {"train", "register", "deploy"}]
    assert [task["cachingOptions"] for task in steps] == [{}] * 3


def test_step_programs_only_call_their_module(compiled: dict[str, Any]) -> None:
    for name, executor in compiled["deploymentSpec"]["executors"].items():
        source = executor["container"]["command"][-1]
        step = name.removeprefix("exec-")
        assert re.search(rf"from windlass_pipelines\.steps\.{step} import {step}", source)
        assert len(source.splitlines()) < 16


@pytest.mark.parametrize(
    ("statuses", "error", "terminated", "state", "message"),
    [
        ({"train": DONE, "register": DONE}, "", False, "succeeded", ""),
        ({"train": DONE, "register": DONE, "deploy": DONE}, "", True, "succeeded", ""),
        ({"train": DONE, "register": DONE, "deploy": FAILED}, "RuntimeError: kfp", False, "failed", "deploy: why"),
        ({"train": STOPPED}, "", False, "stopped", ""),
        ({"train": FAILED}, "RuntimeError: kfp", True, "stopped", ""),
        ({"train": DONE, "register": CLOSED}, "RuntimeError: kfp", False, "stopped", ""),
        (
            {"train": RUNNING},
            "RuntimeError: kfp",
            False,
            "failed",
            "train: its process ended without reporting a status",
        ),
        ({}, "RuntimeError: kfp", False, "failed", "RuntimeError: kfp"),
        ({"train": DONE}, "", False, "failed", "the pipeline ended before its steps completed"),
    ],
)
def test_the_run_result_follows_from_the_step_statuses(
    statuses: dict[str, StepStatus], error: str, terminated: bool, state: str, message: str
) -> None:
    end = run_result(statuses, error=error, terminated=terminated)
    assert (end.state, end.message) == (state, message)


def test_the_reason_of_a_failed_step_is_that_of_the_run_and_fits_into_the_message_of_a_pod() -> None:
    reason = Reason(code="oom_killed", message="ä" * 3000, action="Reduce it", context={"detail": "x" * 900})
    failed = StepStatus(state="failed", message="y" * 2000, reason=reason)
    end = run_result({"train": failed}, error="RuntimeError: kfp", terminated=False)
    assert end.reason == reason
    text = end.termination_message()
    assert len(text.encode()) <= 4096
    kept = RunResult.model_validate_json(text).reason
    assert kept is not None
    assert (kept.code, kept.action) == ("oom_killed", "Reduce it")
    assert kept.message
