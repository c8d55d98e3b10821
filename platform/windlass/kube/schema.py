"""Generates CustomResourceDefinitions with structural schemas from the models of ``windlass.kube.resources``.

A structural schema is the subset of OpenAPI v3 that apiextensions.k8s.io/v1 accepts: no ``$ref``, one type per value,
``nullable`` instead of a null type, inline defaults
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
"""

from typing import Any

from windlass.kube.resources.base import GROUP, VERSION, CelRule, CustomResource, PrinterColumn

Schema = dict[str, Any]

_SUPPORTED_KEYS = (
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


def structural(model: type[CustomResource]) -> Schema:
    """Return the structural schema of a kind: spec and status, with its validation rules."""
    json_schema = model.model_json_schema(by_alias=True)
    definitions = json_schema.get("$defs", {})
    fields = {name: _convert(json_schema["properties"][name], definitions) for name in ("spec", "status")}
    schema: Schema = {
        "type": "object",
        "description": _plain_text(json_schema["description"]),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": fields["spec"],
            "status": fields["status"],
        },
        "required": ["spec"],
    }
    # the API server applies the spec's defaults; the status is missing until the operators write it
    fields["status"].pop("default", None)
    if model.rules:
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in model.rules]
    return schema


def custom_resource_definition(model: type[CustomResource]) -> Schema:
    """Return the CRD of a kind."""
    subresources: Schema = {"status": {}}
    if model.scale:
        subresources["scale"] = {
            "specReplicasPath": model.scale.spec_replicas,
            "statusReplicasPath": model.scale.status_replicas,
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{model.plural}.{GROUP}",
            # helm uninstall must not delete every project and its data
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


def _column(column: PrinterColumn) -> Schema:
    result = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return result | ({"priority": 1} if column.wide else {})


def _rule(rule: CelRule) -> Schema:
    result = {"rule": rule.rule, "message": rule.message}
    return result | ({"fieldPath": rule.field} if rule.field else {})


def _convert(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return the structural form of one value's JSON schema."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        schema = target | {name: value for name, value in schema.items() if name != "$ref"}
    if "anyOf" in schema:
        # every union is optional: the field is omitted, never null
        [option] = [option for option in schema["anyOf"] if option.get("type") != "null"]
        rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
        return _convert(option | rest, definitions)
    result = {name: schema[name] for name in _SUPPORTED_KEYS if name in schema}
    result |= {name: value for name, value in schema.items() if name.startswith("x-kubernetes-")}
    if "const" in schema:
        result |= {"type": "string", "enum": [schema["const"]]}
    if "description" in result:
        result["description"] = _plain_text(result["description"])
    if result.get("type") == "array":
        result["items"] = _convert(schema["items"], definitions)
    elif "properties" in schema:
        properties = schema["properties"].items()
        result["properties"] = {name: _convert(value, definitions) for name, value in properties}
    elif result.get("type") == "object":
        patterns: dict[str, Schema] = schema.get("patternProperties", {})
        values: Schema = schema.get("additionalProperties") or next(iter(patterns.values()))
        result["additionalProperties"] = _convert(values, definitions)
    if isinstance(result.get("default"), dict):
        result["default"] = {}  # the fields have their own defaults
    return result | ({"format": "int64"} if result.get("type") == "integer" else {})


def _plain_text(text: str) -> str:
    """Convert a docstring for ``kubectl explain``: one paragraph, no markup."""
    return " ".join(text.replace("``", "").split())
