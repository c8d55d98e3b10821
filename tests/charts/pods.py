"""What every pod of the charts has in common."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def containers(pod: Json) -> list[Json]:
    """The containers and init containers of a pod template."""
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def assert_restricted(templates: Mapping[str, Json]) -> None:
    """Every pod complies with the restricted Pod Security level, and has a read-only root and bounded resources."""
    for name, pod in templates.items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"], name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for each in containers(pod):
            security = each["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= each["resources"]["requests"].keys(), name
            assert "memory" in each["resources"]["limits"], name
