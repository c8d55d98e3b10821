"""What a Kubeflow Pipelines server does that other back ends do not, and that the adapter must survive."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories.kfp_runs import PACKAGE, PIPELINES, SYSTEM, KfpRun, kfp_run
from tests.fakes.kfp.server import Fault
from tests.fakes.kfp.store import KfpServerSettings

from windlass.domain.errors import UnavailableError
from windlass.domain.reasons import ClusterCode
from windlass.kube.kfp.run_record import run_id_of
from windlass.kube.kinds import SECRET
from windlass.kube.objects import Ref
from windlass.orchestration.kfp.package import PIPELINE_NAME
from windlass.orchestration.run_result import RunResult
from windlass.ports import BackendState

_CREATE = ("POST", "/apis/v2beta1/runs")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[KfpRun]:
    with kfp_run(tmp_path) as run:
        yield run


def fail_first_creation(run: KfpRun, fault: Fault) -> None:
    remaining = [fault]
    run.server.faults = lambda *request: remaining.pop() if request == _CREATE and remaining else None


# ------------------------------------------------------------ submit


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.ERROR_AFTER, Fault.UNREADABLE])
def test_a_creation_whose_reply_is_lost_is_found_and_not_repeated(run: KfpRun, fault: Fault) -> None:
    fail_first_creation(run, fault)
    assert run.backend().submit(run.context) is True
    assert run.backend().submit(run.context) is False
    assert run.starts() == 1
    assert run.server.requests["POST /apis/v2beta1/runs"] == 1


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.UNAVAILABLE])
def test_a_creation_that_did_not_happen_is_repeated_later_with_another_id(run: KfpRun, fault: Fault) -> None:
    fail_first_creation(run, fault)
    with pytest.raises(UnavailableError, match="was lost"):
        run.backend().submit(run.context)
    with pytest.raises(UnavailableError, match="not confirmed"):
        run.backend().submit(run.context)
    assert run.starts() == 0
    run.clock.sleep(31)
    assert run.backend().submit(run.context) is True
    assert list(run.server.store.runs) == [run_id_of(run.name, 2)]
    assert run.backend().poll(run.name).state is BackendState.RUNNING


def test_of_two_runs_the_first_counts_and_the_other_is_deleted(run: KfpRun) -> None:
    fail_first_creation(run, Fault.REFUSED)
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    run.clock.sleep(31)
    run.backend().submit(run.context)
    late = {**run.server.store.runs[run_id_of(run.name, 2)].body, "run_id": run.run_id}
    run.server.store.create_run(late)
    assert run.starts() == 2
    run.finish("ok")
    assert run.wait_ended().state is BackendState.SUCCEEDED
    assert list(run.server.store.runs) == [run.run_id]


def test_a_rejected_creation_starts_nothing_and_its_id_stays_free(run: KfpRun) -> None:
    run.client().ensure_version(PIPELINE_NAME, PACKAGE, "")
    specs = [documents[0]["root"] for documents in run.server.store.packages.values()]
    parameters = [root.pop("inputDefinitions") for root in specs]
    with pytest.raises(UnavailableError, match="parameter\\(s\\) provided are not required by pipeline: secret"):
        run.backend().submit(run.context)
    assert run.starts() == 0
    for root, accepted in zip(specs, parameters, strict=True):
        root["inputDefinitions"] = accepted
    assert run.backend().submit(run.context) is True
    assert list(run.server.store.runs) == [run.run_id]


def test_a_run_whose_service_account_does_not_exist_is_lost(tmp_path: Path) -> None:
    with kfp_run(tmp_path, service_account="no-such-account") as run:
        run.backend().submit(run.context)
        assert run.wait_ended().state is BackendState.LOST


def test_the_pipeline_is_uploaded_once(run: KfpRun) -> None:
    run.backend().submit(run.context)
    other = run.context.model_copy(update={"identity": run.context.identity.model_copy(update={"name": "job-1-r2"})})
    run.backend().submit(other)
    assert run.server.requests["POST /apis/v2beta1/pipelines/upload"] == 1
    assert run.server.requests["POST /apis/v2beta1/pipelines/upload_version"] == 1
    assert [version["display_name"] for version in run.server.store.versions.values()][1:] == [PACKAGE.version]


@pytest.mark.parametrize("path", ["/pipelines/upload", "/pipelines/upload_version", "/experiments"])
def test_an_upload_whose_reply_is_lost_is_found(run: KfpRun, path: str) -> None:
    remaining = [Fault.LOST_REPLY]
    wanted = ("POST", f"/apis/v2beta1{path}")
    run.server.faults = lambda *request: remaining.pop() if request == wanted and remaining else None
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    assert run.backend().submit(run.context) is True
    assert len(run.server.store.pipelines) == 1
    assert len(run.server.store.experiments) == 2  # with that of the server


def test_the_server_gets_no_secret(run: KfpRun) -> None:
    run.backend().submit(run.context)
    store = run.server.store
    assert store.runs[run.run_id].body["runtime_config"] == {"parameters": {"secret": run.name}}
    assert run.context.run_token not in str([store.runs[run.run_id].body, store.packages, store.experiments])
    secret = run.kube.api.get(Ref(SECRET, run.name, PIPELINES))
    assert run.context.run_token in secret["stringData"]["context.json"]


def test_a_run_has_a_readable_name_in_the_experiment_of_its_project(run: KfpRun) -> None:
    run.backend().submit(run.context)
    body = run.server.store.runs[run.run_id].body
    assert body["display_name"] == "model (job-1-r1)"
    experiment = run.server.store.experiments[body["experiment_id"]]
    assert (experiment["display_name"], experiment["description"]) == (
        "windlass-demo",
        "Runs of the Windlass project demo",
    )


def test_the_description_of_a_run_names_its_job_its_project_and_its_model(run: KfpRun) -> None:
    run.backend().submit(run.context)
    description = run.server.store.runs[run.run_id].body["description"]
    assert description == "Windlass job job_1 of project demo trains model: windlass job get job_1 -p demo"


def test_a_workflow_whose_run_was_not_stored_ends_before_the_run_is_created_again(run: KfpRun) -> None:
    fail_first_creation(run, Fault.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    unstored = run.start_workflow("fine-tune-a", run.run_id)
    other = run.start_workflow("of-another-user", "another-run")
    run.clock.sleep(31)
    run.backend().submit(run.context)
    assert unstored not in run.kube.api.objects
    assert other in run.kube.api.objects


def test_a_kill_ends_a_workflow_whose_run_was_not_stored(run: KfpRun) -> None:
    fail_first_creation(run, Fault.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    unstored = run.start_workflow("fine-tune-a", run.run_id)
    run.backend().kill(run.name)
    assert unstored not in run.kube.api.objects


def test_of_two_workflows_of_a_run_the_first_goes_on(run: KfpRun) -> None:
    run.backend().submit(run.context)
    first, second = (run.start_workflow(name, run.run_id) for name in ("fine-tune-a", "fine-tune-b"))
    run.start_step()
    run.backend().poll(run.name)
    assert first in run.kube.api.objects
    assert second not in run.kube.api.objects


# ------------------------------------------------------------ states


def test_a_missing_state_is_running(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.server.store.runs[run.run_id].hidden_states = 3
    assert run.backend().poll(run.name).state is BackendState.RUNNING


def test_an_unknown_state_is_shown_with_its_text(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.server.store.runs[run.run_id].raw_state = "HIBERNATED"
    polled = run.backend().poll(run.name)
    assert polled.state is BackendState.RUNNING
    assert polled.reason is not None
    assert polled.reason.code == ClusterCode.PIPELINE_STATE_UNKNOWN
    assert "'HIBERNATED'" in polled.reason.message


def test_a_run_that_a_user_terminates_fails_with_that_reason(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.start_step()
    run.server.store.terminate(run.run_id)
    ended = run.wait_ended()
    assert ended.state is BackendState.FAILED
    assert ended.reason is not None
    assert ended.reason.code == ClusterCode.PIPELINE_RUN_TERMINATED


def test_a_failed_run_without_a_result_is_lost_with_the_message_of_its_node(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.end_step(None, log="Killed")
    ended = run.wait_ended()
    assert ended.state is BackendState.LOST
    assert "main: Error (exit code 1)" in ended.message


def test_the_exception_of_a_step_without_a_result_is_read_from_its_log(run: KfpRun) -> None:
    recorded = json.loads((Path(__file__).parent / "kfp_recordings/failure.json").read_text())
    log = next(each["response"] for each in recorded if each["request"].endswith("/log"))
    run.backend().submit(run.context)
    run.end_step(None, log=log)
    ended = run.wait_ended()
    assert ended.state is BackendState.LOST
    assert ended.message.endswith("main: Error (exit code 1): ValueError: boom-xyz the step failed on purpose")


def test_a_result_whose_log_is_gone_is_lost_after_a_minute(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.finish("fail")
    workflow = run.server.store.runs[run.run_id].workflows[0]
    workflow.log_is_gone = True
    backend = run.backend()
    while not workflow.ended:
        backend.poll(run.name)
        run.clock.sleep(2.0)
    ended_at = run.clock()
    assert run.wait_ended().state is BackendState.LOST
    assert run.clock() - ended_at >= 60


def test_a_log_that_cannot_be_read_for_half_a_minute_is_read_afterwards(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.finish("fail")
    until = run.clock() + 45
    run.server.faults = lambda _method, path: (
        Fault.UNAVAILABLE if path.endswith("/log") and run.clock() < until else None
    )
    assert run.wait_ended().state is BackendState.FAILED


def test_a_failure_of_the_log_is_no_lost_run(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.finish("fail")
    remaining = [Fault.UNAVAILABLE, Fault.ERROR_AFTER, Fault.LOST_REPLY]
    run.server.faults = lambda _method, path: remaining.pop() if path.endswith("/log") and remaining else None
    assert run.wait_ended().state is BackendState.FAILED
    assert not remaining


def test_the_last_result_in_the_log_counts(run: KfpRun) -> None:
    run.backend().submit(run.context)
    first = RunResult(state="lost", message="first").log_line()
    run.end_step(RunResult(state="failed", message="second"), log=f"{first}\nmore\n")
    assert run.wait_ended().message == "second"


def test_an_image_that_cannot_be_pulled_is_explained_and_then_given_up(tmp_path: Path) -> None:
    with kfp_run(tmp_path, KfpServerSettings(missing_images=True), start_seconds=300.0) as run:
        backend = run.backend()
        backend.submit(run.context)
        for _ in range(12):
            assert backend.poll(run.name).reason is None
            run.clock.sleep(2)
        run.clock.sleep(60)
        polled = backend.poll(run.name)
        assert polled.state is BackendState.RUNNING
        assert polled.reason is not None
        assert polled.reason.code == ClusterCode.IMAGE_PULL_FAILED
        assert "no.such/image:1" in polled.reason.message
        run.clock.sleep(300)
        given_up = run.backend().poll(run.name)
        assert (given_up.state, given_up.reason) == (BackendState.LOST, polled.reason)
        assert run.server.store.runs[run.run_id].state == "FAILED"


def test_a_step_that_runs_is_not_given_up(tmp_path: Path) -> None:
    with kfp_run(tmp_path, start_seconds=300.0) as run:
        run.backend().submit(run.context)
        run.start_step()
        run.clock.sleep(10_000)
        assert run.backend().poll(run.name).state is BackendState.RUNNING


# ------------------------------------------------------------ kill and deletion


def test_a_kill_ends_the_run_and_its_ray_job(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.start_step()
    created = run.create_ray_job()
    run.backend().kill(run.name)
    assert run.server.store.runs[run.run_id].state == "FAILED"
    assert created not in run.kube.api.objects


def test_a_kill_of_a_run_that_a_user_deleted_ends_its_ray_job(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.start_step()
    created = run.create_ray_job()
    run.client().delete_run(run.run_id)
    assert run.backend().poll(run.name).state is BackendState.UNKNOWN
    run.backend().kill(run.name)
    assert created not in run.kube.api.objects
    assert Ref(SECRET, run.name, PIPELINES) not in run.kube.api.objects


def test_the_ray_job_of_a_run_that_a_user_terminated_is_deleted(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.start_step()
    created = run.create_ray_job()
    run.server.store.terminate(run.run_id)
    run.wait_ended()
    assert created not in run.kube.api.objects


def test_the_context_of_an_ended_run_is_deleted_and_its_record_kept(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.finish("ok")
    run.wait_ended()
    assert [ref.name for ref in run.kube.api.objects] == [f"{run.name}-record"]
    assert run.backend().poll(run.name).state is BackendState.SUCCEEDED


def test_the_context_of_a_run_that_was_given_up_is_deleted(tmp_path: Path) -> None:
    with kfp_run(tmp_path, KfpServerSettings(missing_images=True), start_seconds=300.0) as run:
        run.backend().submit(run.context)
        run.clock.sleep(301)
        assert run.backend().poll(run.name).state is BackendState.LOST
        assert Ref(SECRET, run.name, PIPELINES) not in run.kube.api.objects


def test_a_submission_after_the_end_of_the_run_does_not_create_its_context_again(run: KfpRun) -> None:
    run.backend().submit(run.context)
    run.finish("ok")
    run.wait_ended()
    assert run.backend().submit(run.context) is False
    assert Ref(SECRET, run.name, PIPELINES) not in run.kube.api.objects


def test_a_killed_run_is_not_submitted_again(run: KfpRun) -> None:
    fail_first_creation(run, Fault.REFUSED)
    with pytest.raises(UnavailableError):
        run.backend().submit(run.context)
    run.backend().kill(run.name)
    run.clock.sleep(31)
    assert run.backend().submit(run.context) is False
    assert run.starts() == 0


def test_run_folders_delete_the_secrets_and_keep_the_history_of_the_server(run: KfpRun) -> None:
    backend = run.backend()
    folders = run.folders()
    assert folders.names() == []
    backend.submit(run.context)
    assert folders.names() == [run.name]
    folders.delete(run.name)
    folders.delete(run.name)
    assert folders.names() == []
    assert not run.kube.api.objects
    assert run.server.store.runs[run.run_id].state == "FAILED"


# ------------------------------------------------------------ multi-user servers


def test_a_multi_user_server_gets_the_token_and_the_namespace_of_the_project(tmp_path: Path) -> None:
    settings = KfpServerSettings(multi_user=True, tokens=frozenset({"first", "renewed"}))
    with kfp_run(tmp_path, settings, service_account="default-editor") as run:
        settings.service_accounts = frozenset({"default-editor"})
        run.token_file = tmp_path / "token"
        run.token_file.write_text("expired\n")
        backend = run.backend()
        with pytest.raises(UnavailableError, match="401"):
            backend.submit(run.context)
        run.token_file.write_text("first\n")
        assert backend.submit(run.context) is True
        run.token_file.write_text("renewed\n")
        assert backend.poll(run.name).state is BackendState.RUNNING
        store = run.server.store
        experiment = store.experiments[store.runs[run.run_id].experiment]
        assert experiment["namespace"] == "wl-demo"
        assert {ref.namespace for ref in run.kube.api.objects} == {"wl-demo", SYSTEM}


def test_a_client_finds_out_whether_a_server_is_multi_user(run: KfpRun) -> None:
    assert run.client().is_multi_user() is False
