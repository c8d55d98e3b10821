"""Structural schemas and CustomResourceDefinitions, generated from the models of ``windlass.kube.resources``.

A structural schema is the part of OpenAPI v3 that apiextensions.k8s.io/v1 takes: no ``$ref``, one type per value,
``nullable`` instead of a null type, defaults in place
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
"""

from typing import Any

from windlass.kube.resources.base import GROUP, VERSION, Column, Resource, Rule

Schema = dict[str, Any]

_KEPT = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
)


def structural(model: type[Resource]) -> Schema:
    """Return the schema of a kind: spec and status, with the kind's rules."""
    whole = model.model_json_schema(by_alias=True)
    definitions = whole.get("$defs", {})
    fields = {name: _convert(whole["properties"][name], definitions) for name in ("spec", "status")}
    schema: Schema = {
        "type": "object",
        "description": _sentence(whole["description"]),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": fields["spec"],
            "status": fields["status"],
        },
        "required": ["spec"],
    }
    # a spec's defaults are filled in by the API server; a status is there once somebody has looked
    fields["status"].pop("default", None)
    if model.rules:
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in model.rules]
    return schema


def custom_resource_definition(model: type[Resource]) -> Schema:
    """Return the CRD of a kind."""
    subresources: Schema = {"status": {}}
    if model.scale:
        subresources["scale"] = {"specReplicasPath": model.scale.wished, "statusReplicasPath": model.scale.observed}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{model.plural}.{GROUP}",
            # helm uninstall must not take every project and its data with it
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if model.namespaced else "Cluster",
            "names": {
                "kind": model.kind(),
                "listKind": f"{model.kind()}List",
                "plural": model.plural,
                "singular": model.singular,
                "shortNames": list(model.short_names),
                "categories": ["windlass"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural(model)},
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(column) for column in model.columns],
                }
            ],
        },
    }


def _column(column: Column) -> Schema:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": 1} if column.wide else {})


def _rule(rule: Rule) -> Schema:
    found = {"rule": rule.rule, "message": rule.message}
    return found | ({"fieldPath": rule.field} if rule.field else {})


def _convert(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the structural form of one value's JSON schema."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = target | {name: value for name, value in schema.items() if name != "$ref"}
    if "anyOf" in schema:
        # every union here is "something or nothing": nothing is a field that is left out, never a null
        [choice] = [one for one in schema["anyOf"] if one.get("type") != "null"]
        rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
        return _convert(choice | rest, definitions)
    found = {name: schema[name] for name in _KEPT if name in schema}
    found |= {name: value for name, value in schema.items() if name.startswith("x-kubernetes-")}
    if "const" in schema:
        found |= {"type": "string", "enum": [schema["const"]]}
    if "description" in found:
        found["description"] = _sentence(found["description"])
    if found.get("type") == "array":
        found["items"] = _convert(schema["items"], definitions)
    elif "properties" in schema:
        found["properties"] = {name: _convert(one, definitions) for name, one in schema["properties"].items()}
    elif found.get("type") == "object":
        patterns: dict[str, Schema] = schema.get("patternProperties", {})
        values: Schema = schema.get("additionalProperties") or next(iter(patterns.values()))
        found["additionalProperties"] = _convert(values, definitions)
    if isinstance(found.get("default"), dict):
        found["default"] = {}  # the defaults of its fields fill it
    return found | ({"format": "int64"} if found.get("type") == "integer" else {})


def _sentence(text: str) -> str:
    """A docstring as ``kubectl explain`` shows it: one paragraph, no markup."""
    return " ".join(text.replace("``", "").split())
