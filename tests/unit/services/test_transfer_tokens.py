"""Transfer tokens: what they grant, and that nobody but the control plane can make or change one."""

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes.backends import FakeClock

from windlass.domain.artifacts import FileEntry
from windlass.domain.datasets import DataRequest
from windlass.domain.errors import InvalidError, UnauthenticatedError
from windlass.domain.ingest import IngestOptions
from windlass.domain.models import ImportRequest, ModelSourceFile
from windlass.domain.specs import Task
from windlass.domain.transfers import TransferGrant
from windlass.services.secrets import SecretHasher
from windlass.services.transfer_tokens import TransferTokens
from windlass.storage.local import LocalObjectStore

GRANT = TransferGrant(subject="dsv_1", read=("a",), write=("b",))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tokens(tmp_path: Path, clock: FakeClock) -> TransferTokens:
    return TransferTokens(SecretHasher(b"pepper"), clock, LocalObjectStore(tmp_path))


def test_a_token_grants_what_was_signed_until_it_expires(tokens: TransferTokens, clock: FakeClock) -> None:
    token = tokens.sign(GRANT, clock.now() + timedelta(hours=1))
    assert tokens.verify(token) == GRANT
    clock.advance(3600)
    with pytest.raises(UnauthenticatedError):
        tokens.verify(token)


def test_a_changed_token_is_refused(tokens: TransferTokens, clock: FakeClock) -> None:
    token = tokens.sign(GRANT, clock.now() + timedelta(hours=1))
    payload, _, signature = token.removeprefix("wlt_").partition(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["grant"]["write"] = ["projects"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    other = TransferTokens(SecretHasher(b"other pepper"), clock, tokens.store).sign(GRANT, clock.now() + timedelta(1))
    for bad in (
        f"wlt_{forged}.{signature}",
        f"wlt_{payload}.{signature[:-1]}0",
        f"wlt_{payload}.",
        f"wlt_.{tokens.hasher.transfer_signature('')}",
        f"wlt_ü.{signature}",
        payload,
        token.replace("wlt_", "wlr_"),
        other,
        tokens.hasher.run_token("run_1"),
        "",
    ):
        with pytest.raises(UnauthenticatedError):
            tokens.verify(bad)


def test_a_data_task_reads_its_inputs_and_writes_its_version_and_result(tokens: TransferTokens) -> None:
    uri = tokens.store.uri
    request = DataRequest(
        operation="ingest",
        task=Task.TEXT_CLASSIFICATION,
        options=IngestOptions(),
        inputs=((uri("projects/p/uploads/up/0"), None),),
        output=uri("projects/p/datasets/dsv_1"),
        tokenizer=uri("base-models/bm/tokenizer.json"),
    )
    grant = tokens.verify(tokens.for_data_task("dsv_1", request))
    assert grant.write == ("projects/p/datasets/dsv_1", "task-results/dsv_1")
    assert grant.delete == ("projects/p/datasets/dsv_1",), "a published result stands"
    assert set(grant.read) == {"projects/p/uploads/up/0", "base-models/bm/tokenizer.json", *grant.write}
    elsewhere = request.model_copy(update={"output": "file:///etc"})
    with pytest.raises(InvalidError, match="not in this object store"):
        tokens.for_data_task("dsv_1", elsewhere)


def test_an_import_reads_what_was_uploaded_and_deletes_nothing(tokens: TransferTokens) -> None:
    uri = tokens.store.uri
    staged = ModelSourceFile(path="a", uri=uri("base-model-uploads/bm_1/0"), entry=FileEntry(bytes=1, sha256="0" * 64))
    grant = tokens.verify(tokens.for_import("bm_1", ImportRequest(target=uri("base-models/bm_1"), files=(staged,))))
    assert grant.read == ("base-model-uploads/bm_1/0", *grant.write)
    assert (grant.write, grant.delete) == (("base-models/bm_1", "task-results/bm_1"), ())


def test_the_token_of_a_model_server_changes_monthly_and_outlives_its_successor(
    tokens: TransferTokens, clock: FakeClock
) -> None:
    uris = (tokens.store.uri("projects/p/jobs/2/artifacts/1"), tokens.store.uri("projects/p/jobs/1/artifacts/1"))
    first = tokens.for_model_server("ep_1", uris)
    grant = tokens.verify(first)
    assert (grant.write, grant.delete) == ((), ())
    assert grant.read == ("projects/p/jobs/1/artifacts/1", "projects/p/jobs/2/artifacts/1")
    seen = {first}
    for _ in range(45 * 24):
        clock.advance(3600)
        current = tokens.for_model_server("ep_1", tuple(reversed(uris)))
        if current not in seen:
            assert all(tokens.verify(token) for token in seen if len(seen) == 1), "a pod may still use the last one"
        seen.add(current)
    assert len(seen) in (2, 3)
    clock.advance(timedelta(days=60).total_seconds())
    with pytest.raises(UnauthenticatedError):
        tokens.verify(first)
