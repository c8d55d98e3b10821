"""The commands with a real control plane: standard output, standard error, exit codes."""

import json
import threading
from pathlib import Path

import pytest
import yaml
from tests.fakes.harness import ControlPlaneHarness
from tests.unit.cli.conftest import Windlass

from windlass.ports import BackendState
from windlass.sdk._sync.jobs import Jobs

JOB = ("--task", "text-classification", "--base-model", "tiny", "--dataset", "reviews", "--model", "classifier")

WARNING = {"code": "rows_truncated", "message": "3 rows truncated to 8 tokens", "context": {"rows": 3}}


def _create(cli: Windlass, *more: str) -> str:
    created = cli("job", "create", *JOB, *more, "-o", "name")
    assert created.code == 0, created.err
    return created.out.strip()


def _finish(harness: ControlPlaneHarness, job: str) -> None:
    harness.run_worker_once(2)
    run = harness.simulated_run({"id": job})
    attempt = run.acquire_attempt().json()["attempt"]
    points = [{"type": "metric", "name": "train_loss", "step": step, "value": 1 / (1 + step)} for step in range(21)]
    run.report(attempt, *points)
    run.report(attempt, {"type": "log", "text": "loading\n\x1b[31mred\x1b[0m \x07bell\n"})
    run.report(attempt, {"type": "event", "code": "training_started", "message": "started \x1b[2J now"})
    run.finish(attempt, {"weighted_f1": 0.81}, warnings=[WARNING])
    run.client.put(f"/internal/v1/runs/{run.run}/steps/train", json={"state": "succeeded"})
    harness.pipelines.end(run.name, BackendState.SUCCEEDED)
    harness.run_worker_once(3)


def test_status_shows_user_and_server(cli: Windlass, url: str) -> None:
    result = cli("status")
    assert result.code == 0
    assert url in result.out
    assert "admin" in result.out
    assert json.loads(cli("status", "--json").out)["mode"] == "embedded"


def test_data_goes_to_stdout_and_messages_to_stderr(cli: Windlass) -> None:
    created = cli("job", "create", *JOB, "-o", "json")
    job = json.loads(created.out)
    assert job["spec"]["base_model"] == "tiny"
    assert job["id"] in created.err
    assert yaml.safe_load(cli("job", "get", job["id"], "-o", "yaml").out)["id"] == job["id"]
    assert cli("job", "list", "-o", "name").out == job["id"] + "\n"
    assert job["id"] in cli("job", "list").out


def test_flags_override_the_file_and_set_overrides_both(cli: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "spec:\n  task: text-classification\n  base_model: tiny\n  dataset: reviews\n  model: classifier\n"
        "  training: {epochs: 9, learning_rate: 1e-3}\n  evaluation: {gates: ['weighted_f1 >= 0.5']}\n"
    )
    job = _create(
        cli,
        "-f",
        str(file),
        "--epochs",
        "2",
        "--rank",
        "4",
        "--set",
        "training.seed=7",
        "--gate",
        "accuracy > 0.1",
    )
    spec = json.loads(cli("job", "get", job, "--json").out)["spec"]
    assert (spec["training"]["epochs"], spec["training"]["learning_rate"], spec["training"]["seed"]) == (2, 1e-3, 7)
    assert spec["method"]["rank"] == 4
    assert [gate["metric"] for gate in spec["evaluation"]["gates"]] == ["accuracy"]


def test_dry_run_prints_spec_and_decision_and_creates_no_job(cli: Windlass) -> None:
    result = cli("job", "create", *JOB, "--dry-run", "--json")
    assert result.code == 0
    data = json.loads(result.out)
    assert data["spec"]["method"]["type"] == "lora"
    assert data["verdict"]["verdict"] == "starts"
    plain = cli("job", "create", *JOB, "--dry-run")
    assert yaml.safe_load(plain.out)["training"]["batch_size"] == 4
    assert "batch_size = 4: for 4 training rows" in plain.err
    assert "would start now" in plain.err
    assert cli("job", "list", "-o", "name").out == ""


def test_a_dry_run_shows_the_rows_of_all_training_processes(cli: Windlass, harness: ControlPlaneHarness) -> None:
    with harness.database.write() as uow:
        pool = uow.pools.get({"name": "local"})
        uow.pools.save(pool.model_copy(update={"gpu_type": "NVIDIA H200", "capacity": 2}))
    shown = cli("job", "create", *JOB, "--gpus", "2", "--batch-size", "8", "--dry-run").err
    assert "2 training processes with 8 rows each: 16 rows per optimizer step" in shown


def test_same_idempotency_key_returns_the_same_job(cli: Windlass) -> None:
    assert _create(cli, "--idempotency-key", "k1") == _create(cli, "--idempotency-key", "k1")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["job", "create", *JOB, "--lr", "0"], 2, "--learning-rate"),
        (["job", "create", *JOB, "--gate", "f1"], 2, "METRIC OPERATOR NUMBER"),
        (["job", "create", *JOB, "--set", "x"], 2, "FIELD=VALUE"),
        (["job", "create", *JOB, "--max-duration", "soon"], 2, "90s"),
        (["job", "create", "-f", "/nowhere/job.yaml"], 2, "/nowhere/job.yaml"),
        (["job", "create", *JOB, "--base-model", "unknown"], 2, "unknown"),
        (["job", "create", *JOB, "--gpus", "9"], 6, "Reduce"),
        (["job", "get", "job_00000000000000000000000000"], 4, "job_0000"),
        (["job", "list", "-p", "nowhere"], 4, "nowhere"),
        (["job", "list", "--state", "asleep"], 2, "asleep"),
        (["job"], 2, ""),
        (["jbo"], 2, "job"),
        (["job", "get", "x", "--json", "-o", "yaml"], 2, "contradicts"),
        (["project", "create", "default"], 5, "default"),
        (["dataset", "clean", "reviews"], 2, "no cleaning steps"),
        (["dataset", "report", "reviews@zero"], 2, "NAME@NUMBER"),
        (["model", "show", "nothing"], 4, "nothing"),
        (["endpoint", "create", "desk", "classifier"], 4, "classifier"),
        (["endpoint", "create", "desk", "classifier@"], 2, "MODEL@NUMBER"),
        (["predict", "nobody", "hello"], 4, "nobody"),
        (["examples", "fetch", "moon-rocks"], 4, "reviews"),
    ],
)
def test_errors_have_exit_codes_and_one_message(cli: Windlass, arguments: list[str], code: int, message: str) -> None:
    result = cli(*arguments)
    assert result.code == code, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not message or result.err.count("error:") == 1


def test_invalid_key_exits_3_and_is_not_printed(cli: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_KEY", "wlk_00000000000000000000000000_wrong")
    result = cli("job", "list")
    assert result.code == 3
    assert "wrong" not in result.err


def test_platform_command_without_permission_exits_3(
    cli: Windlass, harness: ControlPlaneHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = harness.client_for_user("ann")
    monkeypatch.setenv("WINDLASS_KEY", member.headers["Authorization"].removeprefix("Bearer "))
    assert cli("key", "create", "eve").code == 3


def test_missing_server_hint_names_windlass_up(windlass: Windlass) -> None:
    result = windlass("job", "list")
    assert result.code == 7
    assert "windlass up" in result.err


def test_wait_prints_lines_until_the_job_ends(cli: Windlass, harness: ControlPlaneHarness) -> None:
    job = _create(cli)
    thread = threading.Thread(target=_finish, args=(harness, job))
    thread.start()
    result = cli("job", "wait", job, "--timeout", "60s")
    thread.join()
    assert result.code == 0, result.err
    assert "succeeded" in result.out
    assert "classifier@1, decision: candidate" in result.err
    assert "step 10  train_loss=0.09091" in result.err
    assert "\x1b" not in result.err + result.out
    assert cli("job", "watch", job).code == 0


def test_results_of_an_ended_job_can_be_read(cli: Windlass, harness: ControlPlaneHarness, tmp_path: Path) -> None:
    job = _create(cli)
    _finish(harness, job)
    log = cli("job", "logs", job).out
    assert [line.rpartition("| ")[2] for line in log.splitlines()] == ["loading", "red \N{REPLACEMENT CHARACTER}bell"]
    assert cli("job", "logs", "-f", job).out == log
    assert "train_loss" in cli("job", "metrics", job).out
    assert json.loads(cli("job", "metrics", job, "--json").out)["series"][0]["steps"] == [*range(21)]
    events = cli("job", "events", job).out
    assert "started" in events
    assert "\x1b" not in events
    assert cli("model", "list", "-o", "name").out == "classifier\n"
    assert "weighted_f1 0.81" in cli("model", "show", "classifier@1").out
    assert json.loads(cli("model", "alias", "classifier@1", "champion", "--json").out)["aliases"] == {"champion": 1}
    assert cli("model", "versions", "classifier", "-o", "name").out == "classifier@1\n"
    page = tmp_path / "report.html"
    assert cli("model", "report", "classifier@champion", "--html", str(page)).code == 0
    assert page.read_text() == "<html></html>"
    folder = tmp_path / "model"
    assert cli("model", "download", "classifier@1", str(folder)).out == f"{folder}\n"
    assert (folder / "report.html").read_text() == "<html></html>"
    assert cli("model", "download", "classifier@1", str(folder)).code == 5


def test_cancelled_job_exits_1_and_can_be_retried(cli: Windlass, harness: ControlPlaneHarness) -> None:
    job = _create(cli)
    assert cli("job", "cancel", job).code == 0
    harness.run_worker_once(3)
    assert cli("job", "wait", job, "--timeout", "60s").code == 1
    retried = cli("job", "retry", job, "-o", "name").out.strip()
    assert retried.startswith("job_")
    assert json.loads(cli("job", "get", retried, "--json").out)["retry_of"] == job


def test_expired_wait_timeout_names_the_watch_command(cli: Windlass) -> None:
    job = _create(cli)
    result = cli("job", "wait", job, "--timeout", "1s")
    assert result.code == 8
    assert f"windlass job watch {job}" in result.err


@pytest.mark.parametrize("command", [["wait"], ["watch"], ["logs", "-f"]])
def test_ctrl_c_detaches_and_does_not_cancel(
    cli: Windlass, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    job = _create(cli)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "stream", interrupted)
    monkeypatch.setattr(Jobs, "follow_log", interrupted)
    result = cli("job", *command, job)
    assert result.code == 130
    assert "keeps running" in result.err
    assert job in result.err
    assert json.loads(cli("job", "get", job, "--json").out)["state"] == "queued"


def test_quotas_and_pools_can_be_shown_and_changed(cli: Windlass) -> None:
    assert json.loads(cli("quota", "set", "local", "3", "--json").out)["nominal"] == 3
    line = json.loads(cli("quota", "show", "--json").out)[0]
    assert (line["pool"], line["nominal"]) == ("local", 3)
    assert cli("pool", "create", "h200", "--capacity", "8", "--gpu-type", "H200").code == 0
    assert json.loads(cli("pool", "set", "h200", "--price", "2.5", "--json").out)["capacity"] == 8
    assert (
        json.loads(cli("pool", "set", "h200", "--gpu-memory", "141GiB", "--json").out)["gpu_memory_bytes"] == 141 << 30
    )
    assert "141.0 GiB" in cli("pool", "show", "h200").out
    refused = cli("pool", "set", "h200", "--gpu-memory", "141 GB")
    assert (refused.code, "write it as 24GiB or 512MiB" in refused.err) == (2, True)
    assert cli("pool", "set", "h200").code == 2
    assert cli("pool", "delete", "h200", "--yes").code == 0


def test_projects_members_and_keys_can_be_created_and_deleted(cli: Windlass) -> None:
    created = cli("project", "create", "team-b", "--cohort", "research", "--priority-ceiling", "3", "--json")
    assert json.loads(created.out)["priority_ceiling"] == 3
    assert (
        json.loads(cli("project", "update", "team-b", "--priority-ceiling=-1", "--json").out)["priority_ceiling"] == -1
    )
    assert json.loads(cli("project", "update", "team-b", "--leave-cohort", "--json").out)["cohort"] is None
    assert cli("project", "update", "team-b").code == 2
    assert cli("member", "set", "-p", "team-b", "ann", "editor").code == 0
    assert "ann" in cli("member", "list", "-p", "team-b", "-o", "name").out
    assert cli("member", "remove", "-p", "team-b", "ann", "--yes").code == 0
    secret = cli("key", "create", "ann", "--only-project", "team-b")
    assert secret.out.startswith("wlk_")
    assert secret.out.strip() not in secret.err
    key = json.loads(cli("key", "list", "--json").out)
    mine = next(line["id"] for line in key if line["user"] == "ann")
    assert cli("key", "revoke", mine, "--yes").code == 0
    assert cli("project", "delete", "team-b", "--yes").code == 0


def test_dataset_is_uploaded_validated_and_cleaned(cli: Windlass, harness: ControlPlaneHarness, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    lines = [
        f"{'fine' if number % 2 else 'awful'} thing {number},{'up' if number % 2 else 'down'}" for number in range(40)
    ]
    file.write_text("review,label\n" + "\n".join([*lines, lines[0]]) + "\n")
    # With a base model, tokens are counted with its tokenizer; the test model has none.
    assert cli("base-model", "delete", "tiny", "--yes").code == 0
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            harness.run_worker_once()
            harness.processing.poll_datasets()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        sent = cli("dataset", "upload", "shop", str(file), "--task", "text-classification", "--column", "text=review")
        assert sent.code == 0, sent.err
        assert "41 rows" in sent.out
        assert "shop@1 is ready" in sent.err
        row = json.loads(cli("dataset", "rows", "shop", "--limit", "1").out)
        assert row["text"] == "awful thing 0"
        cleaned = cli("dataset", "clean", "shop", "--dedupe", "--split", "0.75/0.25", "--stratify", "-o", "json")
        assert cleaned.code == 0, cleaned.err
        assert json.loads(cleaned.out)["rows"] == {"train": 30, "validation": 10}
        assert cli("dataset", "list", "shop", "-o", "name").out.split() == ["shop@2", "shop@1"]
    finally:
        stop.set()
        thread.join()


def test_control_characters_are_not_printed(cli: Windlass) -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jgone\u202e"
    assert cli("project", "create", "odd", "--title", evil).code in {0, 2}
    shown = cli("project", "list").out + cli("project", "list", "--json").out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_warnings_of_a_finished_job_are_shown_with_job_and_version(cli: Windlass, harness: ControlPlaneHarness) -> None:
    job = _create(cli)
    _finish(harness, job)
    message = str(WARNING["message"])
    assert json.loads(cli("job", "get", job, "--json").out)["warnings"] == [WARNING]
    assert message in cli("job", "get", job).out
    assert f"warning: {message}" in cli("job", "watch", job).err
    assert message in cli("model", "show", "classifier@1").out


def test_a_report_of_another_format_is_refused_with_a_way_out(cli: Windlass, harness: ControlPlaneHarness) -> None:
    _finish(harness, _create(cli))
    refused = cli("model", "report", "classifier@1", "--json")
    assert refused.code == 2
    assert "report.json has format 2; this version of windlass reads format 1" in refused.err
    assert "report.html" in refused.err


def test_rows_are_filtered_by_the_server(cli: Windlass) -> None:
    def texts(*options: str) -> list[str]:
        printed = cli("dataset", "rows", "reviews", *options)
        assert printed.code == 0, printed.err
        return [json.loads(line)["text"] for line in printed.out.splitlines()]

    assert texts("--label", "b") == ["text 1", "text 3"]
    assert texts("--find", "TEXT 2") == ["text 2"]
    assert texts("--label", "b", "--find", "2") == []
    assert texts("--label", "a", "--split", "validation", "--limit", "1") == ["text 0"]
