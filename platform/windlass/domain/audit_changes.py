"""What the audit log stores of a change: the values of chosen fields, without secrets and without long values."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from windlass.domain.audit import FieldChange
from windlass.domain.budgets import ProjectBudget
from windlass.domain.cluster_sync import QuotaSpec
from windlass.domain.datasets import Dataset, DatasetVersion, Upload
from windlass.domain.endpoints import Endpoint
from windlass.domain.erasures import Erasure
from windlass.domain.identity import ServiceAccount, UserAccount, UserSession
from windlass.domain.jobs import DomainModel, Job
from windlass.domain.models import CatalogueModel, Model, ModelVersion
from windlass.domain.projects import ApiKey, Member, Pool, Project

AUDITED_FIELDS: Mapping[type[DomainModel], tuple[str, ...]] = {
    ApiKey: (
        *("id", "user", "name", "platform_role", "project", "service_account", "permissions"),
        *("expires_at", "revoked_at"),
    ),
    CatalogueModel: ("licence", "source", "path", "files", "state"),
    Dataset: ("task", "description"),
    DatasetVersion: ("origin", "upload", "parent", "options", "steps"),
    Endpoint: ("spec",),
    Erasure: ("dataset", "state"),
    Job: ("spec", "retry_of", "state"),
    Member: ("kind", "role"),
    Model: ("task", "description", "aliases"),
    ModelVersion: ("decision", "job", "dataset_version"),
    Pool: ("capacity", "gpu_type", "max_gpus_per_job", "price_per_gpu_hour", "gpu_memory_bytes"),
    Project: ("display_name", "cohort", "priority_ceiling"),
    ProjectBudget: ("cost", "gpu_time"),
    QuotaSpec: ("nominal", "borrowing_limit", "lending_limit"),
    ServiceAccount: ("role", "description"),
    Upload: ("files", "options", "state"),
    UserAccount: ("issuer", "subject", "display_name", "groups", "disabled_at"),
    UserSession: ("kind", "api_key", "expires_at", "ended_at"),
}
"""The fields of each kind of object that callers set. Fields that the platform computes say nothing about a change, and
rows of datasets, hashes of secrets and results of trainings are not the log's business."""

MAX_CHARACTERS = 300
MAX_FIELDS = 64
_MAX_ITEMS = 16
REDACTED = "[redacted]"
_SECRET_WORDS = frozenset(
    {"credential", "credentials", "hash", "key", "passwd", "password", "pepper", "secret", "token"}
)
_SECRETS = re.compile(r"wl[a-z]_[0-9A-Za-z_-]{20,}|(?<=://)[^/@\s]+(?=@)|(?i:bearer)\s+[^\s]{8,}")
"""Our own tokens, the user and password of a URL, and bearer tokens."""


def field_changes(before: DomainModel | None, after: DomainModel | None) -> dict[str, FieldChange]:
    """Return what differs between two states of an object, by the path of the field; None: it does not exist.

    A created or deleted object has the fields that differ from their defaults.
    """
    old, new = (_values(model, complete=before is not None and after is not None) for model in (before, after))
    differing = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    changes = {path: FieldChange(before=old.get(path), after=new.get(path)) for path in differing[:MAX_FIELDS]}
    if len(differing) > MAX_FIELDS:
        changes["..."] = FieldChange(after=f"{len(differing) - MAX_FIELDS} more fields")
    return {path: _redacted(path, change) for path, change in changes.items()}


def _values(model: DomainModel | None, *, complete: bool) -> dict[str, Any]:
    if model is None:
        return {}
    names = AUDITED_FIELDS[type(model)]
    dumped = model.model_dump(mode="json", include=set(names))
    chosen = dumped if complete else model.model_dump(mode="json", include=set(names), exclude_defaults=True)
    return {path: value for name in names if name in chosen for path, value in _flat(name, chosen[name], dumped[name])}


def _flat(path: str, value: Any, complete: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested objects with their paths; a list is one value, with the defaults of its items."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flat(f"{path}.{name}", item, complete[name])
    else:
        yield path, complete


def _redacted(path: str, change: FieldChange) -> FieldChange:
    if _is_secret(path):
        values = (None if value is None else REDACTED for value in (change.before, change.after))
    else:
        values = (_shortened(value) for value in (change.before, change.after))
    before, after = values
    return FieldChange(before=before, after=after)


def _is_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def shortened(text: str) -> str:
    """Return a text without secrets, cut if it is long."""
    text = _SECRETS.sub(REDACTED, text)
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}... ({len(text)} characters)"


def _shortened(value: Any) -> Any:
    """Return a JSON value without secrets; it is a text if it was cut."""
    clean = _without_secrets(value)
    if isinstance(clean, list) and len(clean) > _MAX_ITEMS:
        clean = [*clean[:_MAX_ITEMS], f"{len(clean) - _MAX_ITEMS} more"]
    if not isinstance(clean, list):
        return clean
    text = json.dumps(clean, ensure_ascii=False)
    return clean if len(text) <= 2 * MAX_CHARACTERS else shortened(text)


def _without_secrets(value: Any) -> Any:
    match value:
        case str():
            return shortened(value)
        case list():
            return [_without_secrets(item) for item in value]
        case dict():
            return {
                name: REDACTED if _is_secret(name) and item is not None else _without_secrets(item)
                for name, item in value.items()
            }
        case _:
            return value
