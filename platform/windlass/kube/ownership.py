"""Field ownership of an object, from its ``metadata.managedFields``; pure.

The format is ``FieldsV1``: ``f:NAME`` is a field, ``k:{...}`` a list entry with these keys, ``v:VALUE`` a set element,
``.`` the item itself (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).

A Project has no atomic fields: if a manager owns a map or list without children, it created it empty, and its current
content belongs to others.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object

API_MANAGER: Final = "windlass-api"
"""The control plane's field manager."""
_OUR_MANAGERS: Final = frozenset({API_MANAGER, FIELD_MANAGER})
_QUOTA_FIELDS: Final = ("f:nominal", "f:borrowingLimit", "f:lendingLimit")


def applied_by(manager: str, subject: Object) -> Object:
    """Return the fields that a manager has applied and still owns, without ``apiVersion``, ``kind`` and name.

    Applying them again changes nothing; omitting a field removes it.
    """
    applied: Object = {}
    for entry in _entries(subject):
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply"):
            applied = _merged(applied, _owned_part(entry.get("fieldsV1") or {}, subject))
    return applied


def managed_by(subject: Object, pool: str) -> str:
    """Return the managers other than Windlass that own fields of a project's quota of a pool, joined by commas."""
    managers = {
        str(entry.get("manager") or "?")
        for entry in _entries(subject)
        if entry.get("manager") not in _OUR_MANAGERS and _owns_quota(entry.get("fieldsV1") or {}, pool)
    }
    return ", ".join(sorted(managers))


def _entries(subject: Object) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of the object itself; those of a subresource own the status or the scale."""
    for entry in subject["metadata"].get("managedFields") or ():
        if not entry.get("subresource"):
            yield entry


def _owns_quota(fields: Mapping[str, Any], pool: str) -> bool:
    for name, children in fields.get("f:spec", {}).get("f:quotas", {}).items():
        if name.startswith("k:") and json.loads(name[2:]) == {"pool": pool}:
            return any(field in children for field in _QUOTA_FIELDS)
    return False


def _owned_part(fields: Mapping[str, Any], value: Any) -> Any:
    """Return the part of a value that the fields name."""
    if isinstance(value, dict):
        return {
            name[2:]: _owned_part(children, value[name[2:]])
            for name, children in fields.items()
            if name.startswith("f:") and name[2:] in value
        }
    if isinstance(value, list):
        return [item for name, children in fields.items() for item in _owned_items(name, children, value)]
    return value


def _owned_items(name: str, children: Mapping[str, Any], value: list[Any]) -> Iterator[Any]:
    prefix, _, rest = name.partition(":")
    if prefix == "k":
        keys = json.loads(rest)
        for item in value:
            if isinstance(item, dict) and all(key in item and item[key] == keys[key] for key in keys):
                yield keys | _owned_part(children, item)
    elif prefix == "v":
        yield from (item for item in value if item == json.loads(rest))


def _merged(left: Object, right: Object) -> Object:
    """Merge two entries of one manager: it has one for each API version that it used."""
    maps = {name: _merged(left[name], right[name]) for name in left if _both_maps(left[name], right.get(name))}
    lists = {
        name: left[name] + [item for item in right[name] if item not in left[name]]
        for name in left
        if isinstance(left[name], list) and isinstance(right.get(name), list)
    }
    return left | right | maps | lists


def _both_maps(left: Any, right: Any) -> bool:
    return isinstance(left, dict) and isinstance(right, dict)
