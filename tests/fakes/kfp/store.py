"""What the fake Kubeflow Pipelines server stores, and its replies to each call. One lock is held by the HTTP server."""

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from tests.fakes.kfp.workflow import StepEnd, Workflow

UNFINISHED = "1970-01-01T00:00:00Z"
_MAX_NAME = 255
_FIRST = datetime(2026, 11, 22, 5, 39, 59, tzinfo=UTC)
_PLUGINS = {"mlflow": {"entries": {"experiment_name": {"value": "KFP-Default"}}, "state": "PLUGIN_FAILED"}}


class KfpError(Exception):
    """An error reply. ``detail`` is the message without the names of the calls around it."""

    def __init__(self, status: int, code: int, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.detail = status, code, detail or message

    def body(self) -> dict[str, Any]:
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.detail}
        return {"code": self.code, "message": str(self), "details": [detail]}


def not_found(kind: str, name: str, prefix: str = "") -> KfpError:
    message = f"{kind} {name} not found"
    return KfpError(404, 5, f"{prefix}ResourceNotFoundError: {message}", message)


@dataclass
class StoredRun:
    """A row of the table of runs, and its workflows: several after a repeated creation."""

    id: str
    body: dict[str, Any]
    experiment: str
    created_at: str
    workflows: list[Workflow]
    states: list[tuple[str, str]]
    """States with their times. The first one of CANCELING is shown before it is in the history."""
    archived: bool = False
    canceling: bool = False
    finished_at: str = UNFINISHED
    hidden_states: int = 0
    """How many more replies lack the state."""
    raw_state: str = ""
    """A state that no version documents."""

    @property
    def state(self) -> str:
        last = self.states[-1][1]
        return "CANCELING" if self.canceling and last not in ("FAILED", "SUCCEEDED") else last


@dataclass
class KfpServerSettings:
    """How the server behaves; tests change it."""

    multi_user: bool = False
    tokens: frozenset[str] = frozenset()
    """Accepted bearer tokens of a multi-user server."""
    service_accounts: frozenset[str] = frozenset({"pipeline-runner"})
    missing_images: bool = False
    calls_per_change: int = 1
    """How many GETs of a run one change of its workflow takes; 0: only ``advance`` makes changes."""


class KfpStore:
    """Experiments, pipelines and runs. Each GET of a run lets its workflow make a change."""

    def __init__(self, settings: KfpServerSettings | None = None) -> None:
        self.settings = settings or KfpServerSettings()
        self.runs: dict[str, StoredRun] = {}
        self.orphans: list[Workflow] = []
        """Workflows without a row: of a creation that was answered with 500."""
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, list[dict[str, Any]]] = {}
        """The documents of the uploaded packages, by version."""
        self.experiments: dict[str, dict[str, Any]] = {}
        self.ends: dict[str, dict[str, StepEnd]] = {}
        """How the steps of runs end, by run id."""
        self.created_runs = 0
        """How many workflows were created."""
        self._seconds = self._calls = 0
        self.add_experiment({"display_name": "Default"})

    def now(self) -> str:
        return (_FIRST + timedelta(seconds=self._seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    # ------------------------------------------------------------ experiments and pipelines

    def add_experiment(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name, namespace = body.get("display_name", ""), body.get("namespace", "")
        if self.settings.multi_user and not namespace and self.experiments:
            raise KfpError(400, 3, "Invalid input error: An experiment must have a namespace in multi-user mode")
        if any(each["display_name"] == name and each.get("namespace", "") == namespace for each in self.listed()):
            raise KfpError(409, 6, f"Failed to create an experiment: already exist error: {name}", "Already exists")
        experiment = {
            "experiment_id": str(uuid.uuid4()),
            "display_name": name,
            "created_at": self.now(),
            "storage_state": "AVAILABLE",
            **({"description": body["description"]} if body.get("description") else {}),
            **({"namespace": namespace} if namespace else {}),
        }
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    def listed(self) -> list[dict[str, Any]]:
        return list(self.experiments.values())

    def upload_pipeline(self, name: str, package: bytes, namespace: str = "") -> dict[str, Any]:
        if any(each["display_name"] == name for each in self.pipelines.values()):
            message = f"Failed to create a pipeline and a pipeline version: already exist error: The name {name} exists"
            raise KfpError(409, 6, message, "Already exists")
        documents = self._parse(package)
        pipeline = {"pipeline_id": str(uuid.uuid4()), "display_name": name, "created_at": self.now()}
        if namespace:
            pipeline["namespace"] = namespace
        self.pipelines[pipeline["pipeline_id"]] = pipeline
        self._add_version(pipeline["pipeline_id"], name, documents)
        return pipeline

    def upload_version(self, pipeline: str, name: str, package: bytes) -> dict[str, Any]:
        if pipeline not in self.pipelines:
            raise not_found("Pipeline", pipeline)
        if any(each["display_name"] == name for each in self.versions_of(pipeline)):
            raise KfpError(
                409, 6, f"Failed to create a pipeline version: already exist error: {name}", "Already exists"
            )
        return self._add_version(pipeline, name, self._parse(package))

    def versions_of(self, pipeline: str) -> list[dict[str, Any]]:
        return [each for each in self.versions.values() if each["pipeline_id"] == pipeline]

    def _add_version(self, pipeline: str, name: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
        version = {
            "pipeline_id": pipeline,
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": name,
            "created_at": self.now(),
        }
        self.versions[version["pipeline_version_id"]] = version
        self.packages[version["pipeline_version_id"]] = documents
        return version

    def delete_object(self, kind: str, name: str, version: str | None) -> dict[str, Any]:
        """Delete an experiment, a pipeline, or (``version``) a version of a pipeline."""
        if version is not None:
            found: dict[str, Any] = self.versions
        else:
            found = self.experiments if kind == "experiments" else self.pipelines
        if found.pop(version or name, None) is None:
            raise not_found(kind, version or name)
        return {}

    @staticmethod
    def _parse(package: bytes) -> list[dict[str, Any]]:
        try:
            documents = list(yaml.safe_load_all(package))
        except (yaml.YAMLError, UnicodeDecodeError):
            documents = []
        if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
            raise KfpError(400, 3, "Invalid input error: unknown template format: pipeline spec is invalid")
        return documents

    # ------------------------------------------------------------ runs

    def create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        spec, failed = self.documents_of(body)[0], "Failed to create a new run: "
        experiment = body.get("experiment_id") or next(iter(self.experiments))
        if experiment not in self.experiments:
            where = "Failed to create a run due to invalid experimentId and namespace combination: "
            where += f"Failed to fetch namespace for experiment {experiment}: "
            where += f"Failed to fetch namespace from experiment {experiment}: "
            raise not_found("Experiment", experiment, failed + where)
        accepted = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        given = body.get("runtime_config", {}).get("parameters", {})
        if extra := sorted(set(given) - set(accepted)):
            detail = f"parameter(s) provided are not required by pipeline: {', '.join(extra)}"
            where = "Failed to generate the ExecutionSpec: invalid pipeline job inputs: Invalid input error: "
            raise KfpError(400, 3, failed + where + detail, detail)
        run_id = body.get("run_id") or str(uuid.uuid4())
        workflow = self._start(run_id, spec)
        if len(body["display_name"]) > _MAX_NAME:
            self.orphans.append(workflow)
            raise KfpError(500, 13, f"{failed}InternalServerError: Data too long for column", "Internal Server Error")
        if run_id in self.runs:  # the second workflow has the same run label, and both of them run
            self.runs[run_id].workflows.append(workflow)
            message = f"{failed}InternalServerError: Failed to store run: Error 1062: Duplicate entry '{run_id}'"
            raise KfpError(500, 13, message, "Internal Server Error")
        run = StoredRun(run_id, body, experiment, self.now(), [workflow], [(self.now(), "PENDING")])
        account = body.get("service_account") or "pipeline-runner"
        if account not in self.settings.service_accounts:
            workflow.phase = "FAILED"
        self.runs[run_id] = run
        return self.shown(run)

    def documents_of(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the package of a run: the pipeline, and perhaps the settings of the platform.

        Raises:
            KfpError: there is none.
        """
        reference = body.get("pipeline_version_reference")
        if reference is not None:
            version = reference.get("pipeline_version_id", "")
            if version not in self.packages:
                raise not_found("PipelineVersion", version, "Failed to create a new run: ")
            return self.packages[version]
        spec = body.get("pipeline_spec")
        if not isinstance(spec, dict) or not {"root", "pipeline_spec"} & spec.keys():
            where = "Failed to create a run due to error fetching manifest: Failed to fetch a template with an invalid "
            where += "pipeline spec manifest: InvalidInputError: unknown template format: pipeline spec is invalid"
            raise KfpError(
                500, 13, f"Failed to create a new run: InternalServerError: {where}", "Internal Server Error"
            )
        # with the settings of a platform, the stock client sends both documents in one object
        both = "pipeline_spec" in spec and "platform_spec" in spec
        return [spec["pipeline_spec"], spec["platform_spec"]] if both else [spec]

    def _start(self, run_id: str, spec: Mapping[str, Any]) -> Workflow:
        tasks = spec["root"]["dag"]["tasks"]
        ends = self.ends.setdefault(run_id, {})
        self.created_runs += 1
        name = spec["pipelineInfo"]["name"]
        return Workflow(name, list(tasks), ends, self.now, unpullable=self.settings.missing_images)

    def find_run(self, run_id: str, call: str) -> StoredRun:
        if run_id not in self.runs:
            raise not_found("Run", run_id, f"{call}Failed to fetch run {run_id}: ")
        return self.runs[run_id]

    def observe(self, run_id: str) -> dict[str, Any]:
        """Reply to a GET, then let the workflows change."""
        run = self.find_run(run_id, "Failed to get a run: ")
        reply = self.shown(run)
        run.hidden_states = max(0, run.hidden_states - 1)
        self._calls += 1
        if self.settings.calls_per_change and self._calls % self.settings.calls_per_change == 0:
            self.advance(run)
        return reply

    def advance(self, run: StoredRun) -> None:
        """Let each workflow of a run make a change, and report it to the table of runs."""
        self._seconds += 1
        for workflow in run.workflows:
            workflow.advance()
        phases = [workflow.phase for workflow in run.workflows]
        state = "RUNNING" if "RUNNING" in phases else phases[0]
        if len(phases) > 1 and state == "SUCCEEDED":
            state = "FAILED"
        if run.canceling and state == "RUNNING":
            state = "CANCELING"
        if state and run.states[-1][1] != state:
            run.states.append((self.now(), state))
            if state in ("SUCCEEDED", "FAILED"):
                run.finished_at = self.now()

    def shown(self, run: StoredRun) -> dict[str, Any]:
        """Return a run as v2beta1 shows it."""
        workflow = run.workflows[0]
        tasks = [node.task(run.id, run.created_at) for node in sorted(workflow.nodes, key=lambda node: node.task_id)]
        shown = {
            "experiment_id": run.experiment,
            "run_id": run.id,
            "display_name": run.body["display_name"],
            "description": run.body.get("description"),
            "storage_state": "ARCHIVED" if run.archived else "AVAILABLE",
            "pipeline_spec": run.body.get("pipeline_spec"),
            "pipeline_version_reference": run.body.get("pipeline_version_reference"),
            "runtime_config": run.body.get("runtime_config")
            if run.body.get("runtime_config", {}).get("parameters")
            else None,
            "service_account": run.body.get("service_account") or "pipeline-runner",
            "created_at": run.created_at,
            "scheduled_at": run.created_at,
            "finished_at": run.finished_at,
            "state": "" if run.hidden_states else run.raw_state or run.state,
            "run_details": {"task_details": tasks} if tasks else None,
            "state_history": [{"update_time": time, "state": state} for time, state in run.states],
            "plugins_output": _PLUGINS,
        }
        return {name: value for name, value in shown.items() if value not in (None, "")}

    def terminate(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            where = f"Failed to terminate a run: Failed to terminate run {run_id} due to error fetching the run: "
            raise not_found("Run", run_id, f"{where}Failed to fetch run {run_id}: ")
        run = self.runs[run_id]
        if run.state not in ("PENDING", "RUNNING"):
            detail = f"Failed to terminate a run {run_id}. Row not found"
            where = f"Failed to terminate a run: Failed to terminate run {run_id}: Invalid input error: "
            raise KfpError(400, 3, where + detail, detail)
        run.canceling = True
        for workflow in run.workflows:
            workflow.stop()
        return {}

    def retry(self, run_id: str) -> dict[str, Any]:
        run = self.find_run(run_id, "Failed to retry a run: ")
        if run.state != "FAILED":
            raise KfpError(400, 3, "Failed to retry a run: Invalid input error: only failed runs can be retried")
        run.canceling, run.finished_at = False, UNFINISHED
        run.states.append((self.now(), "RUNNING"))
        run.workflows[0].retry()
        return {}

    def archive(self, run_id: str) -> dict[str, Any]:
        self.find_run(run_id, "Failed to archive a run: ").archived = True
        return {}

    def delete(self, run_id: str) -> dict[str, Any]:
        self.find_run(run_id, "Failed to delete a run: ")
        del self.runs[run_id]
        return {}

    def manifest(self, run_id: str) -> dict[str, Any]:
        """Return a run as v1beta1 shows it, with the manifest of its workflow as a JSON string."""
        run = self.find_run(run_id, "Failed to get a run: ")
        nodes = {node.id: node.argo() for workflow in run.workflows for node in workflow.nodes}
        manifest = {"metadata": {"labels": {"pipeline/runid": run_id}}, "status": {"nodes": nodes}}
        return {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}

    def node_log(self, run_id: str, node_id: str) -> str:
        run = self.find_run(run_id, "")
        for workflow in run.workflows:
            for node in workflow.nodes:
                if node.id == node_id and not workflow.log_is_gone:
                    return node.log
        raise KfpError(500, 13, f"error retrieving logs: pods {node_id!r} not found", "Internal Server Error")


def _filtered(items: list[dict[str, Any]], predicates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items for which all predicates hold: of names, which the stock client uses, and of the ids of runs."""
    for each in predicates:
        operation, key = each["operation"], each["key"]
        if (operation, key) in {(1, "display_name"), ("EQUALS", "display_name")}:
            wanted = [each.get("stringValue", each.get("string_value"))]
        elif (operation, key) == ("IN", "run_id"):
            wanted = each["string_values"]["values"]
        else:
            detail = f'no support for filtering on unrecognized field "{key}"'
            raise KfpError(400, 3, f"Failed to create list options: Invalid input error: {detail}", detail)
        items = [item for item in items if item[key] in wanted]
    return items


def page(items: list[dict[str, Any]], kind: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of a list.

    Raises:
        KfpError: the size, the token or the filter is not valid.
    """
    size, token = int(query.get("page_size") or 20), query.get("page_token", "")
    failed = "Failed to create list options: "
    if size <= 0:
        detail = f"The page size should be greater than 0. Got {size}"
        raise KfpError(400, 3, f"{failed}Invalid input error: {detail}", detail)
    start = 0
    if token:
        try:
            start = int(json.loads(base64.b64decode(token, validate=True))["KeyFieldValue"])
        except (ValueError, binascii.Error):
            message = f"{failed}InvalidInputError: Invalid page token: illegal base64 data at input byte 4"
            raise KfpError(400, 3, message, "Invalid page token") from None
    if query.get("filter"):
        try:
            items = _filtered(items, json.loads(query["filter"]).get("predicates", []))
        except ValueError:
            value = query["filter"]
            detail = (
                f'failed to parse valid filter from "{value}": proto:\xa0syntax error (line 1:1): invalid value {value}'
            )
            raise KfpError(400, 3, f"{failed}Invalid input error: {detail}", detail) from None
    if query.get("sort_by", "").endswith(" desc"):
        items = sorted(items, key=lambda item: str(item["created_at"]), reverse=True)
    chosen, end = items[start : start + size], start + size
    reply: dict[str, Any] = {kind: chosen, "total_size": len(items)} if items else {}
    if end < len(items):
        reply["next_page_token"] = base64.b64encode(json.dumps({"KeyFieldValue": end}).encode()).decode()
    return reply
