"""Property tests of the API against its OpenAPI document: every role on each operation, and sequences along its links.

CI runs a fixed sample; ``make fuzz`` runs random ones.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import Phase, given, seed
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.openapi import from_asgi
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection
from tests.factories.example_requests import example_requests, request_parts
from tests.factories.example_tenants import ExampleTenant, build_tenant
from tests.fakes.harness import ControlPlaneHarness
from tests.fuzz.budget import SCALE, examples

from windlass.settings import LimitSettings
from windlass_api import forwarding
from windlass_api.authn import PUBLIC

EXAMPLES, SEQUENCES, STEPS = 4, 10, 16
PROJECT_ROLES = ("viewer", "editor", "admin")
PLATFORM_ROLES = ("platform-viewer", "platform-admin")
NOT_PLACED = {
    *("deleteProject", "revokeKey", "removeMember", "deleteDataset", "deleteModel", "deleteEndpoint", "deleteJob"),
    *("predict", "createChatCompletion"),
}
"""Operations that would take from later examples what they need, or need a model server."""


@cache
def harness() -> ControlPlaneHarness:
    """Return one platform shared by all operations of this process."""
    limits = LimitSettings(key_cache_seconds=60, request_rate_per_key=0, request_rate_per_project=0)
    built = ControlPlaneHarness(Path(tempfile.mkdtemp(prefix="windlass-fuzz-")), limits=limits)
    built.create_base_model()
    return built


@cache
def tenant() -> ExampleTenant:
    return build_tenant(harness(), "reviews")


@cache
def credentials() -> dict[str, str]:
    """The Authorization header of each role."""
    found = {"stranger": str(harness().client_for_user("stranger").headers["Authorization"])}
    for role in PROJECT_ROLES:
        path = f"/v1/projects/{tenant().name}/members/a-{role}"
        assert harness().client.put(path, json={"role": role}).status_code == 200
        found[role] = str(harness().client_for_user(f"a-{role}").headers["Authorization"])
    for role in PLATFORM_ROLES:
        secret = harness().client.post("/v1/keys", json={"user": role, "platform_role": role}).json()["secret"]
        found[role] = f"Bearer {secret}"
    return found


@cache
def openapi_schema() -> BaseSchema:
    schema = from_asgi("/v1/openapi.json", harness().app)
    # A schema cannot express which names or versions exist, so documented 4xx problems are accepted.
    schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "4xx", "503"]
    schema.config.checks.negative_data_rejection.expected_statuses = ["4xx"]
    return schema


def operation_params() -> list[Any]:
    found: list[Any] = [result.ok() for result in openapi_schema().get_all_operations() if isinstance(result, Ok)]
    assert len(found) > 50
    return [pytest.param(operation, id=operation.label.replace(" ", "")) for operation in found]


@pytest.fixture(scope="module", autouse=True)
def start_app() -> Iterator[None]:
    with harness().client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(forwarding, "_LAG_SECONDS", 0.0)  # no model server runs: predictions fail at once
        yield


def roles() -> st.SearchStrategy[str]:
    return st.sampled_from(["platform-admin", "admin", "editor", "viewer", "platform-viewer", "stranger"])


def place(case: Any, names: st.DataObject | None = None) -> None:
    """Let a generated path name what exists: random names would only ever be not found."""
    operation_id = case.operation.definition.raw["operationId"]
    if operation_id in NOT_PLACED:
        return
    values = {**tenant().values, "name": tenant().values["metrics name"], "path": "report.json"}
    for name in case.path_parameters or {}:
        case.path_parameters[name] = values.get(name, case.path_parameters[name])


@pytest.mark.parametrize("operation", operation_params())
def test_api_conforms_to_its_openapi_document(operation: Any) -> None:
    @examples(EXAMPLES)
    @given(case=operation.as_strategy(), role=roles(), placed=st.booleans())
    def check(case: Any, role: str, *, placed: bool) -> None:
        if placed:
            place(case)
        case.call_and_validate(headers={"Authorization": credentials()[role]})

    check()


@pytest.mark.parametrize("operation", operation_params())
def test_what_the_document_does_not_allow_is_refused(operation: Any) -> None:
    if not (operation.body or operation.query or operation.path_parameters):
        return  # everything is allowed

    @examples(EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), role=roles())
    def check(case: Any, role: str) -> None:
        reply = case.call(headers={"Authorization": credentials()[role]})
        assert reply.status_code < 500 or reply.json()["code"] == "endpoint_not_ready", reply.text
        case.validate_response(reply)

    check()


@pytest.mark.parametrize("operation", operation_params())
def test_only_public_routes_accept_anonymous_requests(operation: Any) -> None:
    @examples(2)
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        response = case.call(headers={"Authorization": ""})
        if case.operation.path in PUBLIC:
            assert response.status_code < 500
        else:
            assert response.status_code == 401

    check()


def first_seed(config: pytest.Config) -> int:
    """Return the seed of the first sequence: that of ``--hypothesis-seed``, in CI always the same one."""
    given_seed = config.getoption("--hypothesis-seed")
    return int(given_seed) if SCALE and given_seed not in (None, "random") else 0


class Progress:
    """What a sequence has created, and how often each operation has succeeded."""

    def __init__(self) -> None:
        self.succeeded: Counter[str] = Counter()
        self._bodies = {each.id: request_parts(each, tenant().names).json for each in example_requests(harness().app)}
        self._projects = {tenant().name}

    def place(self, case: Any) -> None:
        """Let a request name an existing project, and give it a body whose names exist."""
        operation_id, path = case.operation.definition.raw["operationId"], case.path_parameters or {}
        if path.get("project", tenant().name) not in self._projects:
            path["project"] = tenant().name
        if operation_id in {"createJob", "createUpload", "createEndpoint"}:
            case.body, path["project"] = self._bodies[operation_id], tenant().name
        if operation_id == "createEndpoint":
            case.body = {**case.body, "name": f"e{self.succeeded.total()}"}

    def record(self, response: Any, case: Any) -> None:
        operation_id = case.operation.definition.raw["operationId"]
        if response.status_code < 300:
            self.succeeded[operation_id] += 1
            if operation_id == "createProject":
                self._projects.add(response.json()["name"])


def test_sequences_of_operations_along_the_links_conform(pytestconfig: pytest.Config) -> None:
    """Sequences that create, change and delete: most steps use what an earlier step has created.

    Each sequence is a run of Hypothesis with a seed of its own. The replies decide which links can be followed, and
    depend on what earlier sequences have left on the platform: Hypothesis reports two sequences of one run with the
    same beginning and another reply as inconsistent data generation. The first example of a run is the shortest one.
    """
    progress, machine = Progress(), cast("Any", openapi_schema().as_state_machine())
    authorization = {"Authorization": credentials()["platform-admin"]}

    class Sequences(machine):  # type: ignore[misc, valid-type]  # schemathesis makes the class
        def before_call(self, case: Any) -> None:
            progress.place(case)

        def get_call_kwargs(self, _case: Any) -> dict[str, Any]:
            return {"headers": authorization}

        def validate_response(self, response: Any, case: Any, **_options: Any) -> None:
            if response.status_code != 503 or response.json()["code"] != "endpoint_not_ready":  # no model server runs
                case.validate_response(response, excluded_checks=[negative_data_rejection])  # the body was replaced

        def after_call(self, response: Any, case: Any) -> None:
            progress.record(response, case)

    # without shrinking: a sequence that is repeated finds another platform
    options = examples(2, max_examples=2, phases=[Phase.generate], stateful_step_count=STEPS)
    first = first_seed(pytestconfig)
    for number in range(SEQUENCES * max(1, SCALE)):
        seed(first + number)(Sequences).run(settings=options)
    targets = {
        link["operationId"]
        for methods in harness().app.openapi()["paths"].values()
        for operation in methods.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert len(progress.succeeded) >= 20, progress.succeeded
    assert len(targets & progress.succeeded.keys()) >= 10, progress.succeeded
