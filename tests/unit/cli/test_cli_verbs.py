"""The verbs against a real control plane: what is printed where, and the exit codes."""

import json
import threading
from pathlib import Path

import pytest
import yaml
from tests.fakes.house import House
from tests.unit.cli.conftest import Windlass

from windlass.ports import BackendState
from windlass.sdk.resources.job_handles import Jobs

JOB = ("--task", "text-classification", "--base-model", "tiny", "--dataset", "reviews", "--model", "classifier")


def _create(here: Windlass, *more: str) -> str:
    made = here("job", "create", *JOB, *more, "-o", "name")
    assert made.code == 0, made.err
    return made.out.strip()


def _finish(house: House, job: str) -> None:
    house.turn(2)
    run = house.run_of({"id": job})
    attempt = run.claim().json()["attempt"]
    points = [{"type": "metric", "name": "train_loss", "step": step, "value": 1 / (1 + step)} for step in range(21)]
    run.report(attempt, *points)
    run.report(attempt, {"type": "log", "text": "loading\n\x1b[31mred\x1b[0m \x07bell\n"})
    run.report(attempt, {"type": "event", "code": "training_started", "message": "begins \x1b[2J now"})
    run.finish(attempt, {"weighted_f1": 0.81})
    run.client.put(f"/internal/v1/runs/{run.run}/steps/train", json={"state": "succeeded"})
    house.pipelines.end(run.name, BackendState.SUCCEEDED)
    house.turn(3)


def test_status_says_who_and_where(here: Windlass, url: str) -> None:
    said = here("status")
    assert said.code == 0
    assert url in said.out
    assert "admin" in said.out
    assert json.loads(here("status", "--json").out)["mode"] == "embedded"


def test_data_goes_to_standard_output_and_chatter_to_standard_error(here: Windlass) -> None:
    made = here("job", "create", *JOB, "-o", "json")
    job = json.loads(made.out)
    assert job["spec"]["base_model"] == "tiny"
    assert job["id"] in made.err
    assert yaml.safe_load(here("job", "get", job["id"], "-o", "yaml").out)["id"] == job["id"]
    assert here("job", "list", "-o", "name").out == job["id"] + "\n"
    assert job["id"] in here("job", "list").out


def test_flags_win_over_the_file_and_set_over_both(here: Windlass, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "spec:\n  task: text-classification\n  base_model: tiny\n  dataset: reviews\n  model: classifier\n"
        "  training: {epochs: 9, learning_rate: 1e-3}\n  evaluation: {gates: ['weighted_f1 >= 0.5']}\n"
    )
    job = _create(
        here, "-f", str(file), "--epochs", "2", "--rank", "4", "--set", "training.seed=7", "--gate", "accuracy > 0.1"
    )
    spec = json.loads(here("job", "get", job, "--json").out)["spec"]
    assert (spec["training"]["epochs"], spec["training"]["learning_rate"], spec["training"]["seed"]) == (2, 1e-3, 7)
    assert spec["method"]["rank"] == 4
    assert [gate["metric"] for gate in spec["evaluation"]["gates"]] == ["accuracy"]


def test_a_dry_run_prints_the_whole_spec_and_the_verdict_and_writes_nothing(here: Windlass) -> None:
    said = here("job", "create", *JOB, "--dry-run", "--json")
    assert said.code == 0
    data = json.loads(said.out)
    assert data["spec"]["method"]["type"] == "lora"
    assert data["verdict"]["verdict"] == "starts"
    plain = here("job", "create", *JOB, "--dry-run")
    assert yaml.safe_load(plain.out)["training"]["batch_size"] == 32
    assert "would start now" in plain.err
    assert here("job", "list", "-o", "name").out == ""


def test_the_same_idempotency_key_gives_the_same_job(here: Windlass) -> None:
    assert _create(here, "--idempotency-key", "k1") == _create(here, "--idempotency-key", "k1")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["job", "create", *JOB, "--lr", "0"], 2, "learning_rate"),
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
        (["dataset", "clean", "reviews"], 2, "no step"),
        (["dataset", "report", "reviews@zero"], 2, "NAME@NUMBER"),
        (["model", "show", "nothing"], 4, "nothing"),
        (["endpoint", "create", "desk", "classifier"], 2, "MODEL@NUMBER"),
        (["predict", "nobody", "hello"], 4, "nobody"),
        (["examples", "fetch", "moon-rocks"], 4, "reviews"),
    ],
)
def test_what_is_wrong_has_its_exit_code_and_one_clear_block(
    here: Windlass, arguments: list[str], code: int, words: str
) -> None:
    said = here(*arguments)
    assert said.code == code, said.err
    assert words in said.err
    assert "Traceback" not in said.err
    assert not words or said.err.count("error:") == 1


def test_a_wrong_key_is_told_apart(here: Windlass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_KEY", "wlk_00000000000000000000000000_wrong")
    said = here("job", "list")
    assert said.code == 3
    assert "wrong" not in said.err


def test_a_user_without_platform_rights_is_told_so(
    here: Windlass, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = house.client_of("ann")
    monkeypatch.setenv("WINDLASS_KEY", member.headers["Authorization"].removeprefix("Bearer "))
    assert here("key", "list").code == 3


def test_no_server_says_how_to_start_one(windlass: Windlass) -> None:
    said = windlass("job", "list")
    assert said.code == 7
    assert "windlass up" in said.err


def test_a_job_is_followed_in_plain_lines_to_its_end(here: Windlass, house: House) -> None:
    job = _create(here)
    thread = threading.Thread(target=_finish, args=(house, job))
    thread.start()
    said = here("job", "wait", job, "--timeout", "60s")
    thread.join()
    assert said.code == 0, said.err
    assert "succeeded" in said.out
    assert "classifier@1 is a candidate" in said.err
    assert "step 10  train_loss=0.09091" in said.err
    assert "\x1b" not in said.err + said.out
    assert here("job", "watch", job).code == 0


def test_what_an_ended_job_left_can_be_read(here: Windlass, house: House, tmp_path: Path) -> None:
    job = _create(here)
    _finish(house, job)
    log = here("job", "logs", job).out
    assert [line.rpartition("| ")[2] for line in log.splitlines()] == ["loading", "red \N{REPLACEMENT CHARACTER}bell"]
    assert here("job", "logs", "-f", job).out == log
    assert "train_loss" in here("job", "metrics", job).out
    assert json.loads(here("job", "metrics", job, "--json").out)["series"][0]["steps"] == [*range(21)]
    events = here("job", "events", job).out
    assert "begins" in events
    assert "\x1b" not in events
    assert here("model", "list", "-o", "name").out == "classifier\n"
    assert "weighted_f1=0.81" in here("model", "show", "classifier@1").out
    assert json.loads(here("model", "alias", "classifier@1", "champion", "--json").out)["aliases"] == {"champion": 1}
    assert here("model", "versions", "classifier", "-o", "name").out == "classifier@1\n"
    page = tmp_path / "report.html"
    assert here("model", "report", "classifier@champion", "--html", str(page)).code == 0
    assert page.read_text() == "<html></html>"
    folder = tmp_path / "model"
    assert here("model", "download", "classifier@1", str(folder)).out == f"{folder}\n"
    assert (folder / "report.html").read_text() == "<html></html>"
    assert here("model", "download", "classifier@1", str(folder)).code == 5


def test_a_cancelled_job_counts_as_failed_and_can_be_tried_again(here: Windlass, house: House) -> None:
    job = _create(here)
    assert here("job", "cancel", job).code == 0
    house.turn(3)
    assert here("job", "wait", job, "--timeout", "60s").code == 1
    again = here("job", "retry", job, "-o", "name").out.strip()
    assert again.startswith("job_")
    assert json.loads(here("job", "get", again, "--json").out)["retry_of"] == job


def test_waiting_too_long_says_how_to_return(here: Windlass) -> None:
    job = _create(here)
    said = here("job", "wait", job, "--timeout", "1s")
    assert said.code == 8
    assert f"windlass job watch {job}" in said.err


@pytest.mark.parametrize("verb", [["wait"], ["watch"], ["logs", "-f"]])
def test_ctrl_c_detaches_and_never_cancels(here: Windlass, monkeypatch: pytest.MonkeyPatch, verb: list[str]) -> None:
    job = _create(here)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "stream", interrupted)
    monkeypatch.setattr(Jobs, "follow_log", interrupted)
    said = here("job", *verb, job)
    assert said.code == 130
    assert "goes on" in said.err
    assert job in said.err
    assert json.loads(here("job", "get", job, "--json").out)["state"] in {"accepted", "queued"}


def test_quotas_and_pools_are_shown_and_set(here: Windlass) -> None:
    assert json.loads(here("quota", "set", "local", "3", "--json").out)["nominal"] == 3
    line = json.loads(here("quota", "show", "--json").out)[0]
    assert (line["pool"], line["nominal"]) == ("local", 3)
    assert here("pool", "create", "h200", "--capacity", "8", "--gpu-type", "H200").code == 0
    assert json.loads(here("pool", "set", "h200", "--price", "2.5", "--json").out)["capacity"] == 8
    assert here("pool", "set", "h200").code == 2
    assert here("pool", "delete", "h200").code == 0


def test_projects_members_and_keys_have_a_life(here: Windlass) -> None:
    made = here("project", "create", "team-b", "--cohort", "research", "--priority-ceiling", "3", "--json")
    assert json.loads(made.out)["priority_ceiling"] == 3
    assert (
        json.loads(here("project", "update", "team-b", "--priority-ceiling=-1", "--json").out)["priority_ceiling"] == -1
    )
    assert json.loads(here("project", "update", "team-b", "--leave-cohort", "--json").out)["cohort"] is None
    assert here("project", "update", "team-b").code == 2
    assert here("member", "set", "-p", "team-b", "ann", "editor").code == 0
    assert "ann" in here("member", "list", "-p", "team-b", "-o", "name").out
    assert here("member", "remove", "-p", "team-b", "ann").code == 0
    secret = here("key", "create", "ann", "--only-project", "team-b")
    assert secret.out.startswith("wlk_")
    assert secret.out.strip() not in secret.err
    key = json.loads(here("key", "list", "--json").out)
    mine = next(line["id"] for line in key if line["user"] == "ann")
    assert here("key", "revoke", mine).code == 0
    assert here("project", "delete", "team-b").code == 0


def test_a_dataset_is_uploaded_checked_and_cleaned(here: Windlass, house: House, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    lines = [
        f"{'fine' if number % 2 else 'awful'} thing {number},{'up' if number % 2 else 'down'}" for number in range(40)
    ]
    file.write_text("review,label\n" + "\n".join([*lines, lines[0]]) + "\n")
    # With a base model in the catalogue, lengths would be counted by its tokenizer, and this one has none.
    assert here("base-model", "delete", "tiny").code == 0
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            house.turn()
            house.processing.watch_datasets()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        sent = here("dataset", "upload", "shop", str(file), "--task", "text-classification", "--column", "text=review")
        assert sent.code == 0, sent.err
        assert "41 rows" in sent.out
        assert "shop@1 is ready" in sent.err
        row = json.loads(here("dataset", "rows", "shop", "--limit", "1").out)
        assert row["text"] == "awful thing 0"
        cleaned = here("dataset", "clean", "shop", "--dedupe", "--split", "0.75/0.25", "--stratify", "-o", "json")
        assert cleaned.code == 0, cleaned.err
        assert json.loads(cleaned.out)["rows"] == {"train": 30, "validation": 10}
        assert here("dataset", "list", "shop", "-o", "name").out.split() == ["shop@2", "shop@1"]
    finally:
        stop.set()
        thread.join()


def test_hostile_text_reaches_no_terminal(here: Windlass) -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jgone\u202e"
    assert here("project", "create", "odd", "--title", evil).code in {0, 2}
    shown = here("project", "list").out + here("project", "list", "--json").out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
