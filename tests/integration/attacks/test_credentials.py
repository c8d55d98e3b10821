"""Attack class 16: credentials are compared in constant time, and a refused one costs the same whatever is wrong."""

import ast
import hmac
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType

import pytest
from tests.factories.example_tenants import ExampleTenant
from tests.fakes.harness import ADMIN, ControlPlaneHarness

from windlass.domain.errors import UnauthenticatedError
from windlass.domain.transfers import TransferGrant
from windlass.services import access, transfer_tokens
from windlass.services.keys import Keys
from windlass.services.secrets import SecretHasher

CHECKS = ("authenticate", "verify")
"""Functions of these names, or whose names begin so, check a credential."""
COMPARISONS = {
    *("hmac.compare_digest", "self._matches", "self.transfer_tokens.verify", "self.sign_in.authenticate_token"),
    *("self.authenticate_key", "self.authenticate_session"),
}
"""Calls that compare, or call what compares."""
SECRETS = {"token", "secret", "signature", "secret_hash"}


def checking_functions(module: ModuleType) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith(CHECKS):
            yield node


def test_every_check_of_a_credential_compares_in_constant_time() -> None:
    functions = [function for module in (access, transfer_tokens) for function in checking_functions(module)]
    assert len(functions) >= 4
    for function in functions:
        calls = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
        assert calls & COMPARISONS, function.name


@pytest.mark.parametrize("module", [access, transfer_tokens])
def test_no_secret_is_compared_by_an_operator(module: ModuleType) -> None:
    compared = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops)
        for operand in (node.left, *node.comparators)
        if (isinstance(operand, ast.Name) and operand.id in SECRETS)
        or (isinstance(operand, ast.Attribute) and operand.attr in SECRETS)
    ]
    assert compared == []


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the hashes and comparisons."""
    done: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            done[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(SecretHasher, "hash", counted("hash", SecretHasher.hash))
    monkeypatch.setattr(hmac, "compare_digest", counted("compare", hmac.compare_digest))
    return done


def test_a_refused_key_costs_one_hash_and_one_comparison_whatever_is_wrong(
    harness: ControlPlaneHarness, work: Counter[str]
) -> None:
    keys = Keys(harness.deps, ADMIN)
    _, valid = keys.create("ann")
    revoked_key, revoked = keys.create("ann")
    keys.revoke(revoked_key.id)
    _, expired = keys.create("ann", days=1)
    harness.clock.advance(timedelta(days=2).total_seconds())
    prefix, public, secret = valid.split("_", 2)
    refused = {
        "unknown id": f"{prefix}_{'0' * 26}_{secret}",
        "wrong secret": f"{prefix}_{public}_{'x' * len(secret)}",
        "shorter secret": f"{prefix}_{public}_x",
        "revoked": revoked,
        "expired": expired,
    }
    costs, messages = {}, set()
    for kind, token in refused.items():
        work.clear()
        with pytest.raises(UnauthenticatedError) as raised:
            harness.access_control.authenticate(token)
        costs[kind] = dict(work)
        messages.add((raised.value.message, raised.value.hint))
    assert costs == {kind: {"hash": 1, "compare": 1} for kind in refused}
    assert len(messages) == 1, "the message does not say what is wrong"


def test_a_token_is_valid_only_as_it_was_signed(harness: ControlPlaneHarness, ours: ExampleTenant) -> None:
    access_control, run = harness.access_control, ours.run.run
    grant = TransferGrant(subject="dsv_x", read=("projects/x",), write=())
    transfer = access_control.transfer_tokens.sign(grant, harness.clock.now() + timedelta(hours=1))
    checks: dict[str, Callable[[str], object]] = {
        access_control.run_token(run): lambda token: access_control.authenticate_run(run, token),
        transfer: access_control.authenticate_transfer,
    }
    for token, check in checks.items():
        check(token)
        for position in range(0, len(token), 3):
            other = "0" if token[position] != "0" else "1"
            with pytest.raises(UnauthenticatedError):
                check(f"{token[:position]}{other}{token[position + 1 :]}")
        for changed in (token[:-1], token + "0", token.upper(), f" {token}", f"{token}\n", token * 2, ""):
            with pytest.raises(UnauthenticatedError):
                check(changed)


def test_the_token_of_a_run_reaches_no_object_of_another_project(
    harness: ControlPlaneHarness, ours: ExampleTenant, theirs: ExampleTenant
) -> None:
    run = theirs.run.run
    for method, path in (("GET", f"/internal/v1/runs/{run}"), ("POST", f"/internal/v1/runs/{run}/attempts:acquire")):
        reply = ours.run.client.request(method, path, json={"trainer": "x"})
        assert reply.status_code == 401
    uri = theirs.run.locations.artifact(1)
    for operation in ("open-folder", "list", "delete", "begin", "open-file"):
        path = f"/internal/v1/runs/{ours.run.run}/transfers:{operation}"
        reply = ours.run.client.post(path, json={"uri": uri})
        assert reply.status_code in (403, 404, 409), (operation, reply.text)
    assert harness.store_folder.joinpath(theirs.run.artifact(1), "report.json").exists()
