"""What the audit log stores of a change."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.domain.artifacts import FileEntry
from windlass.domain.audit import FieldChange
from windlass.domain.audit_changes import AUDITED_FIELDS, MAX_CHARACTERS, REDACTED, field_changes, shortened
from windlass.domain.datasets import Upload, UploadFile, UploadState
from windlass.domain.endpoints import Endpoint, EndpointSpec, EndpointState
from windlass.domain.ingest import IngestOptions
from windlass.domain.jobs import DomainModel
from windlass.domain.models import BaseModelState, CatalogueModel, Model
from windlass.domain.projects import ApiKey, Project
from windlass.domain.specs import Task

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PROJECT = Project(id="prj_1", name="lab", created_at=NOW)
KEY = ApiKey(id="key_1", user="ada", secret_hash="f" * 64, created_at=NOW)
TOKEN = "wlk_01m810c6xggwmq6ybzy8jrqebf_" + "s" * 43


def model(**more: Any) -> Model:
    return Model(id="mdl_1", project="prj_1", name="m", task=Task.CHAT, created_at=NOW, **more)


def test_only_the_fields_that_differ_are_stored() -> None:
    after = PROJECT.model_copy(update={"display_name": "Lab", "version": 2})
    assert field_changes(PROJECT, after) == {"display_name": FieldChange(before="", after="Lab")}
    assert field_changes(PROJECT, PROJECT) == {}


def test_a_created_and_a_deleted_object_have_the_fields_that_differ_from_their_defaults() -> None:
    project = PROJECT.model_copy(update={"priority_ceiling": 5})
    assert field_changes(None, project) == {"priority_ceiling": FieldChange(before=None, after=5)}
    assert field_changes(project, None) == {"priority_ceiling": FieldChange(before=5, after=None)}


def test_nested_fields_have_paths_and_lists_are_one_value() -> None:
    traffic = [{"model": "m", "version": 1}]
    old = EndpointSpec.model_validate({"traffic": traffic})
    endpoint = Endpoint(
        id="ep_1",
        project="prj_1",
        name="live",
        task=Task.CHAT,
        spec=old,
        state=EndpointState.PENDING,
        created_by="ada",
        created_at=NOW,
        changed_at=NOW,
    )
    new = EndpointSpec.model_validate({"traffic": [{"model": "m", "version": 2}], "replicas": {"min": 1, "max": 3}})
    changes = field_changes(endpoint, endpoint.model_copy(update={"spec": new}))
    assert {*changes} == {"spec.replicas.max", "spec.traffic"}
    assert changes["spec.replicas.max"].after == 3
    assert changes["spec.traffic"].before == [{"model": "m", "version": 1, "alias": None, "weight": 100}]
    created = field_changes(None, endpoint)
    assert created["spec.traffic"].after == [{"model": "m", "version": 1, "alias": None, "weight": 100}]


def test_an_alias_that_is_set_removed_or_moved_is_one_field() -> None:
    set_changes = field_changes(model(), model(aliases={"champion": 1}))
    assert set_changes == {"aliases.champion": FieldChange(before=None, after=1)}
    moved = field_changes(model(aliases={"champion": 1}), model(aliases={"champion": 2}))
    assert moved == {"aliases.champion": FieldChange(before=1, after=2)}
    assert field_changes(model(aliases={"champion": 1}), model())["aliases.champion"].after is None


def test_the_secret_of_a_key_is_not_stored() -> None:
    changes = field_changes(None, KEY.model_copy(update={"name": TOKEN}))
    assert {*changes} == {"id", "user", "name"}
    assert changes["name"].after == REDACTED


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("https://ada:hunter2@host/m", f"https://{REDACTED}@host/m"),
        (f"use {TOKEN} now", f"use {REDACTED} now"),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: {REDACTED}"),
        ("https://host/m", "https://host/m"),
    ],
)
def test_secrets_in_texts_are_redacted(text: str, stored: str) -> None:
    entry = CatalogueModel(
        id="bm_1", name="m", source=text, prefix="p", state=BaseModelState.READY, created_at=NOW, path="/m"
    )
    assert field_changes(None, entry)["source"].after == stored


@pytest.mark.parametrize("name", ["password", "api_key", "hf_token", "client.secret", "db-password"])
def test_fields_with_the_name_of_a_secret_are_redacted(name: str) -> None:
    changes = field_changes(model(), model(aliases={name: 7}))
    assert [*changes.values()] == [FieldChange(before=None, after=REDACTED)]


def test_long_values_are_cut() -> None:
    changes = field_changes(model(), model(description="x" * 5000))
    assert changes["description"].after == "x" * MAX_CHARACTERS + "... (5000 characters)"
    many = field_changes(model(), model(aliases={f"a{number}": number for number in range(500)}))
    assert len(many) == 65
    assert many["..."].after == "436 more fields"


def test_long_lists_are_cut() -> None:
    files = tuple(UploadFile(name=f"{n}.csv", entry=FileEntry(bytes=n, sha256="0" * 64)) for n in range(1000))
    upload = Upload(
        id="up_1",
        project="prj_1",
        dataset="ds_1",
        files=files,
        options=IngestOptions(),
        state=UploadState.OPEN,
        created_at=NOW,
    )
    assert len(json.dumps(field_changes(None, upload)["files"].after)) < 3 * MAX_CHARACTERS


@given(st.text())
def test_a_shortened_text_is_short(text: str) -> None:
    assert len(shortened(text * 50)) <= MAX_CHARACTERS + 40


@pytest.mark.parametrize("kind", AUDITED_FIELDS)
def test_the_audited_fields_exist_and_are_no_secrets(kind: type[DomainModel]) -> None:
    assert set(AUDITED_FIELDS[kind]) <= set(kind.model_fields)
    assert not {"secret_hash", "manifest", "evaluation", "report", "labels", "rows"} & set(AUDITED_FIELDS[kind])
