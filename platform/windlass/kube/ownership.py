"""Who owns which fields of an object, as its ``metadata.managedFields`` say it; pure.

The notation of ``FieldsV1``: ``f:NAME`` is a field, ``k:{...}`` the entry of a list with these keys, ``v:VALUE`` an
element of a set, ``.`` the thing itself
(https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).

A Project has no field that is owned only as a whole (atomic): a map or list that a manager owns without anything in it
is one that it made empty, and what is in it now is others'.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from windlass.kube.names import FIELD_MANAGER
from windlass.kube.objects import Object

API_MANAGER: Final = "windlass-api"
"""The name by which the control plane owns fields of projects."""
_OURS: Final = frozenset({API_MANAGER, FIELD_MANAGER})
_SHARE: Final = ("f:nominal", "f:borrowingLimit", "f:lendingLimit")


def applied_by(manager: str, subject: Object) -> Object:
    """Return the part of an object that a manager has applied and still owns, without ``apiVersion``, ``kind``, name.

    To apply it again changes nothing; what is left out of it is taken away.
    """
    whole: Object = {}
    for entry in _entries(subject):
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply"):
            whole = _merged(whole, _owned(entry.get("fieldsV1") or {}, subject))
    return whole


def managed_by(subject: Object, pool: str) -> str:
    """Return the names of those who own something of a project's quota of a pool beside Windlass; empty: nobody."""
    found = {
        str(entry.get("manager") or "?")
        for entry in _entries(subject)
        if entry.get("manager") not in _OURS and _owns_share(entry.get("fieldsV1") or {}, pool)
    }
    return ", ".join(sorted(found))


def _entries(subject: Object) -> Iterator[Mapping[str, Any]]:
    """Yield who owns what of the object itself; what is written through a subresource is a status, or a scale."""
    for entry in subject["metadata"].get("managedFields") or ():
        if not entry.get("subresource"):
            yield entry


def _owns_share(fields: Mapping[str, Any], pool: str) -> bool:
    for name, inside in fields.get("f:spec", {}).get("f:quotas", {}).items():
        if name.startswith("k:") and json.loads(name[2:]) == {"pool": pool}:
            return any(share in inside for share in _SHARE)
    return False


def _owned(fields: Mapping[str, Any], value: Any) -> Any:
    """Return what of a value the fields name."""
    if isinstance(value, dict):
        return {
            name[2:]: _owned(inside, value[name[2:]])
            for name, inside in fields.items()
            if name.startswith("f:") and name[2:] in value
        }
    if isinstance(value, list):
        return [one for name, inside in fields.items() for one in _elements(name, inside, value)]
    return value


def _elements(name: str, inside: Mapping[str, Any], value: list[Any]) -> Iterator[Any]:
    mark, _, rest = name.partition(":")
    if mark == "k":
        keys = json.loads(rest)
        for one in value:
            if isinstance(one, dict) and all(key in one and one[key] == wanted for key, wanted in keys.items()):
                yield keys | _owned(inside, one)
    elif mark == "v":
        yield from (one for one in value if one == json.loads(rest))


def _merged(one: Object, other: Object) -> Object:
    """Return what two entries of one manager own together: one for each version of the API that it has used."""
    both = {name: _merged(one[name], other[name]) for name in one if _maps(one[name], other.get(name))}
    lists = {
        name: one[name] + [each for each in other[name] if each not in one[name]]
        for name in one
        if isinstance(one[name], list) and isinstance(other.get(name), list)
    }
    return one | other | both | lists


def _maps(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)
