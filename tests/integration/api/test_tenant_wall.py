"""No request of one tenant reads or changes anything of another: every operation x every caller x every id.

The operations come from the OpenAPI document. A new operation, parameter or text field of a body fails the first test
until it is declared here.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from fastapi.routing import APIRoute
from tests.factories.api_operations import text_fields
from tests.factories.databases import Kind, using
from tests.factories.tenant_matrix import (
    BODIES,
    CREATED,
    FORMATS,
    IDENTITIES,
    NOBODY,
    NOT_READY,
    NOT_REFERENCES,
    PLAIN,
    QUERIES,
    REFERENCES,
    SHARED,
    Matrix,
    absent,
    is_identity,
)
from tests.factories.two_tenants import MEMBER_OF_BOTH, OURS, THEIRS, TwoTenants, two_tenants

from windlass.domain.projects import ANY_USER, GRANTS, PLATFORM_GRANTS, PlatformRole, Role
from windlass_api.authn import PUBLIC
from windlass_api.dependencies import encode_cursor
from windlass_api.routers import internal, transfers

pytestmark = pytest.mark.database("sqlite", "postgresql")


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], TwoTenants]]:
    """Build the platform once for each database: no test of this module changes what another one needs."""
    built: dict[Kind, TwoTenants] = {}
    with ExitStack() as stack:

        def get(kind: Kind) -> TwoTenants:
            if kind not in built:
                stack.enter_context(using(kind))
                built[kind] = stack.enter_context(two_tenants(tmp_path_factory.mktemp(kind), kind))
            return built[kind]

        yield get


@pytest.fixture
def matrix(platforms: Callable[[Kind], TwoTenants], database_kind: Kind) -> Iterator[Matrix]:
    """A matrix; after the test nothing was wrong, and the other tenant has the same rows."""
    built = Matrix(platforms(database_kind))
    before = built.platform.rows_of(built.platform.theirs)
    yield built
    after = built.platform.rows_of(built.platform.theirs)
    built.wrong += [
        f"changed {table}: {before[table]} -> {after[table]}" for table in before if before[table] != after[table]
    ]
    assert "\n".join(built.wrong) == ""


@pytest.fixture
def callers(matrix: Matrix) -> dict[str, str | None]:
    """Callers without access to the other tenant: their keys by name."""
    platform = matrix.platform
    return {
        **platform.ours.tokens,
        "member of both, confined": platform.key(MEMBER_OF_BOTH, project=OURS),
        "stranger": platform.key("stranger"),
    }


@pytest.mark.database("sqlite")
def test_every_operation_parameter_and_text_field_is_covered(matrix: Matrix) -> None:
    document, references = matrix.platform.app.openapi(), set(REFERENCES)
    plain = set().union(*NOT_REFERENCES.values())
    texts: set[str] = set()
    for operation in matrix.operations:
        for location, name in operation.parameters:
            known = IDENTITIES | SHARED.keys() if location == "path" else QUERIES | PLAIN
            matrix.expect(name in known, operation.identity, "has an unknown parameter", name)
        if operation.body.endswith("json"):
            matrix.expect(operation.identity in BODIES, operation.identity, "has no body here")
        public = operation.path in PUBLIC
        matrix.expect(public or len(operation.permissions) == 1, operation.identity, "declares no permission")
        matrix.expect(operation.of_project == ("{project}" in operation.path), operation.identity, "has another scope")
        texts |= text_fields(document, operation)
    assert texts == references | plain
    assert matrix.platform.theirs.ids.keys() >= IDENTITIES | SHARED.keys()


def test_a_foreign_project_is_one_that_does_not_exist(matrix: Matrix, callers: dict[str, str | None]) -> None:
    theirs = matrix.platform.theirs
    for operation in matrix.operations:
        if not operation.of_project:
            continue
        foreign = matrix.values(operation, theirs)
        matrix.compare(callers.values(), operation, foreign, {**foreign, "project": NOBODY}, (404,))
    assert matrix.sent > 400


def test_a_caller_without_a_valid_key_gets_nothing(matrix: Matrix) -> None:
    platform = matrix.platform
    revoked = platform.key(platform.theirs.member(Role.VIEWER))
    key = platform.client(revoked).get("/v1/whoami").json()["key"]
    assert platform.client(revoked).delete(f"/v1/keys/{key}", params={"force": "true"}).status_code == 200
    for operation in matrix.operations:
        if operation.path in PUBLIC:
            continue
        for token in (None, revoked, "wlk_" + "a" * 26 + "_" + "s" * 40):
            status, text = matrix.send(token, operation, matrix.values(operation, platform.theirs))
            matrix.expect(status == 401, operation.identity, status, text)
            matrix.expect(THEIRS not in text, operation.identity, text)


def test_a_foreign_object_below_the_own_project_is_one_that_does_not_exist(matrix: Matrix) -> None:
    """The caller may do everything in its own project; the last one is a platform admin, who may do it in both."""
    ours, theirs = matrix.platform.ours, matrix.platform.theirs
    highest = max(Role, key=lambda role: len(GRANTS[role]))
    callers = [
        (ours.tokens[highest.value], GRANTS[highest]),
        (matrix.platform.key("boss", platform_role=PlatformRole.ADMIN), None),
    ]
    for operation in matrix.operations:
        named = [name for name in operation.path_parameters if name != "project" and is_identity(operation, name)]
        if not operation.of_project or not named:
            continue
        own, foreign = matrix.values(operation, ours), matrix.values(operation, theirs)
        for token, granted in callers:
            expected = 404 if granted is None or operation.permissions[0] in granted else 403
            for names in [[name] for name in named if (operation.identity, name) not in CREATED] + [named]:
                if all((operation.identity, name) in CREATED for name in names):
                    continue
                other = {name: foreign[name] for name in names}
                missing = {name: absent(value) for name, value in other.items()}
                for accept in FORMATS if ("header", "accept") in operation.parameters else FORMATS[:1]:
                    matrix.compare([token], operation, own | other, own | missing, (expected,), accept)
    assert matrix.sent > 100


def test_a_foreign_object_is_not_deleted_with_its_descendants(matrix: Matrix) -> None:
    """The caller may delete everything in its own project; the last one is a platform admin, who may do it in both."""
    ours, theirs, query = matrix.platform.ours, matrix.platform.theirs, {"cascade": "true"}
    admin = matrix.platform.key("boss", platform_role=PlatformRole.ADMIN)
    tried = set()
    for operation in matrix.operations:
        if ("query", "cascade") not in operation.parameters:
            continue
        tried.add(operation.identity)
        own, foreign = matrix.values(operation, ours), matrix.values(operation, theirs)
        named = [name for name in operation.path_parameters if name != "project" and is_identity(operation, name)]
        for token in (ours.tokens[Role.ADMIN.value], admin) if named else ():
            other = {name: foreign[name] for name in named}
            missing = {name: absent(value) for name, value in other.items()}
            matrix.compare([token], operation, own | other, own | missing, (404,), query=query)
        token = ours.tokens[Role.ADMIN.value]
        matrix.compare([token], operation, foreign, {**foreign, "project": NOBODY}, (404,), query=query)
    assert tried == {"deleteDataset", "deleteDatasetVersion", "deleteModel", "deleteModelVersion", "deleteProject"}


def test_a_foreign_key_or_session_is_one_that_does_not_exist(matrix: Matrix, callers: dict[str, str | None]) -> None:
    foreign, tried = matrix.platform.theirs.ids, set()
    for operation in matrix.operations:
        named = {"key", "session"}.intersection(operation.path_parameters)
        if named and not operation.of_project:
            tried.add(operation.identity)
            missing = {**foreign, **{name: absent(foreign[name]) for name in named}}
            matrix.compare(callers.values(), operation, foreign, missing, (404,))
    assert tried == {"renewKey", "revokeKey", "endOtherSession"}


def test_a_key_for_a_foreign_project_is_one_for_a_project_that_does_not_exist(matrix: Matrix) -> None:
    [create] = [operation for operation in matrix.operations if operation.identity == "createKey"]
    foreign = matrix.platform.theirs.ids
    for user, token in [
        (matrix.platform.ours.member(Role.VIEWER), matrix.platform.ours.tokens[Role.VIEWER.value]),
        ("stranger", matrix.platform.key("stranger")),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BODIES, "createKey", {"user": user, "project": "{project}"})
            matrix.compare([token], create, foreign, {**foreign, "project": NOBODY}, (404,))


def test_a_foreign_name_in_a_body_is_one_that_does_not_exist(matrix: Matrix) -> None:
    ours, theirs = matrix.platform.ours, matrix.platform.theirs
    token = matrix.platform.key("boss", platform_role=PlatformRole.ADMIN)
    by_identity = {operation.identity: operation for operation in matrix.operations}
    for reference, identities in REFERENCES.items():
        name = reference.rpartition(".")[2]
        for identity in identities:
            operation, own = by_identity[identity], matrix.values(by_identity[identity], ours)
            with pytest.MonkeyPatch.context() as patch:
                if name == "alias":
                    target = {"model": "{model}", "alias": "{alias}", "weight": 100}
                    patch.setitem(BODIES, identity, {**BODIES[identity], "spec": {"traffic": [target]}})
                # the path of updateEndpoint has the endpoint, so only the body has the value
                foreign, missing = {**own, name: theirs.ids[name]}, {**own, name: absent(theirs.ids[name])}
                matrix.compare([token], operation, foreign, missing, (404, 422))


def test_lists_contain_objects_of_the_own_projects_only(matrix: Matrix) -> None:
    ours, theirs = matrix.platform.ours, matrix.platform.theirs
    callers = {Role.VIEWER.value: ours.tokens[Role.VIEWER.value], "stranger": matrix.platform.key("stranger")}
    callers["member of both, confined"] = matrix.platform.key(MEMBER_OF_BOTH, project=OURS)
    listed = 0
    for operation in matrix.operations:
        queries = [name for location, name in operation.parameters if location == "query" and name in QUERIES]
        if operation.method != "GET" or operation.path in PUBLIC:
            continue
        values = matrix.values(operation, ours)
        for name, token in callers.items():
            if operation.of_project and name == "stranger":
                continue
            tries: list[dict[str, str]] = [{}]
            if "cursor" in queries:
                tries += [{"cursor": encode_cursor(value)} for value in (theirs.ids["job"], THEIRS, "~", "0")]
            if "match" in queries:
                tries += [{"match": theirs.ids["job"]}, {"match": f"{THEIRS}-job"}, {"match": theirs.ids["job"][:6]}]
            if "project" in queries:
                tries += [{"project": THEIRS}, {"project": theirs.uid}, {"actor": theirs.member(Role.VIEWER)}]
            for query in tries:
                status, text = matrix.send(token, operation, values, query)
                matrix.expect(status < 500 or operation.identity in NOT_READY, operation.identity, query, status, text)
                matrix.expect(THEIRS not in text, operation.identity, name, query, text)
                matrix.expect(theirs.uid not in text, operation.identity, name, query, text)
                matrix.expect(theirs.ids["job"] not in text, operation.identity, name, query, text)
                listed += 1
    assert listed > 100


@pytest.mark.parametrize("role", [*Role, PlatformRole.VIEWER])
def test_a_role_does_what_it_grants_and_no_more(matrix: Matrix, role: Role | PlatformRole) -> None:
    """A write names an object that does not exist: who may write learns that, who may not does not."""
    if isinstance(role, Role):
        tenant, granted = matrix.platform.ours, GRANTS[role]
        token = tenant.tokens[role.value]
    else:
        tenant, granted = matrix.platform.theirs, PLATFORM_GRANTS[role]
        token = matrix.platform.key("auditor", platform_role=role)
    for operation in matrix.operations:
        if not operation.of_project:
            continue
        values, is_granted = matrix.values(operation, tenant), operation.permissions[0] in granted
        if operation.method != "GET":
            missing = {name: absent(values[name]) for name in operation.path_parameters if is_identity(operation, name)}
            values |= {**missing, "project": tenant.name}
        status, text = matrix.send(token, operation, values)
        if is_granted and operation.method == "GET" and operation.identity not in NOT_READY:
            matrix.expect(status == 200, operation.identity, status, text)
        else:
            matrix.expect((status != 403) == is_granted, operation.identity, status, text)
        matrix.expect(status not in (401, 500), operation.identity, status, text)


def test_an_operation_of_the_platform_is_for_its_admins(matrix: Matrix, callers: dict[str, str | None]) -> None:
    for operation in matrix.operations:
        if operation.of_project or operation.path in PUBLIC:
            continue
        # users create keys for themselves, not for others
        is_granted = operation.permissions[0] in ANY_USER and operation.identity != "createKey"
        missing = {name: f"{NOBODY}-{name}" for name in operation.path_parameters}
        for name, token in callers.items():
            status, text = matrix.send(token, operation, missing)
            matrix.expect((status != 403) == is_granted, operation.identity, name, status, text)


def test_the_token_of_a_run_opens_no_other_run(matrix: Matrix) -> None:
    ours, theirs = matrix.platform.ours.run, matrix.platform.theirs.run
    assert ours is not None
    assert theirs is not None
    token = matrix.platform.harness.access_control.run_token(ours.run)
    paths = 0
    for router in (internal.router, internal.warm_trainers_router, transfers.router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            [method], path = route.methods or {"GET"}, route.path
            values = {"run": theirs.run, "project": THEIRS, "name": "trainer", "number": "1", "step": "train"}
            own = path
            for name, value in values.items():
                own = own.replace(f"{{{name}}}", value)
            reply = matrix.platform.client(token).request(method, own, json={})
            matrix.expect(reply.status_code == 401, method, path, reply.status_code, reply.text)
            paths += 1
    assert paths > 15
