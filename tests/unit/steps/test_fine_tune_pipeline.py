"""The pipeline as KFP compiles it, and how a run's end follows from what its steps noted."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from windlass_pipelines.run import verdict
from windlass_pipelines.steps.progress import StepNote

DONE = StepNote(state="succeeded", outcome="succeeded")
RUNNING = StepNote(state="running")
FAILED = StepNote(state="failed", message="why")
STOPPED = StepNote(state="succeeded", outcome="stopped")
CLOSED = StepNote(state="failed", message="fenced", outcome="stopped")


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


def test_it_has_the_three_steps_in_their_order_and_under_their_conditions(compiled: dict[str, Any]) -> None:
    found = tasks(compiled)
    assert {"train", "register", "deploy"} < found.keys()
    conditions = [task["triggerPolicy"]["condition"] for task in found.values() if "triggerPolicy" in task]
    assert sorted(conditions) == [
        "inputs.parameter_values['pipelinechannel--deploy'] == true",
        "inputs.parameter_values['pipelinechannel--register-Output'] == 'candidate'",
        "inputs.parameter_values['pipelinechannel--train-Output'] == 'succeeded'",
    ]
    assert "train" in compiled["root"]["dag"]["tasks"]
    assert "register" not in compiled["root"]["dag"]["tasks"]


def test_its_only_parameter_is_whether_to_deploy(compiled: dict[str, Any]) -> None:
    assert list(compiled["root"]["inputDefinitions"]["parameters"]) == ["deploy"]


def test_no_step_installs_anything_or_is_cached(compiled: dict[str, Any]) -> None:
    executors = compiled["deploymentSpec"]["executors"].values()
    assert {executor["container"]["image"] for executor in executors} == {"registry.test/steps:1"}
    for executor in executors:
        assert "pip install" not in " ".join(executor["container"]["command"])
    steps = [task for name, task in tasks(compiled).items() if name in {"train", "register", "deploy"}]
    assert [task["cachingOptions"] for task in steps] == [{}] * 3


def test_steps_are_thin(compiled: dict[str, Any]) -> None:
    for name, executor in compiled["deploymentSpec"]["executors"].items():
        source = executor["container"]["command"][-1]
        step = name.removeprefix("exec-")
        assert re.search(rf"from windlass_pipelines\.steps\.{step} import {step}", source)
        assert len(source.splitlines()) < 16


@pytest.mark.parametrize(
    ("notes", "error", "terminated", "state", "message"),
    [
        ({"train": DONE, "register": DONE}, "", False, "succeeded", ""),
        ({"train": DONE, "register": DONE, "deploy": DONE}, "", True, "succeeded", ""),
        ({"train": DONE, "register": DONE, "deploy": FAILED}, "RuntimeError: kfp", False, "failed", "deploy: why"),
        ({"train": STOPPED}, "", False, "stopped", ""),
        ({"train": FAILED}, "RuntimeError: kfp", True, "stopped", ""),
        ({"train": DONE, "register": CLOSED}, "RuntimeError: kfp", False, "stopped", ""),
        ({"train": RUNNING}, "RuntimeError: kfp", False, "failed", "train: its process ended without a word"),
        ({}, "RuntimeError: kfp", False, "failed", "RuntimeError: kfp"),
        ({"train": DONE}, "", False, "failed", "the pipeline ended before its steps did their work"),
    ],
)
def test_how_a_run_ended_follows_from_its_steps(
    notes: dict[str, StepNote], error: str, terminated: bool, state: str, message: str
) -> None:
    end = verdict(notes, error=error, terminated=terminated)
    assert (end.state, end.message) == (state, message)
