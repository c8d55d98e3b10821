"""The configuration of Kueue's manager, from its ConfigMap."""

from typing import Any, Final

import yaml

from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.kube.objects import Object

KUEUE_CONFIG_MAP: Final = "kueue-manager-config"
_KEY: Final = "controller_manager_config.yaml"
_FRAMEWORKS: Final = ("batch/job", "ray.io/rayjob", "ray.io/rayservice", "ray.io/raycluster")
_NAME: Final = "kueue configuration"
_ACTION: Final = "configure Kueue as helm/windlass-stack/values.yaml does, and restart it"


def check_kueue_configuration(config_map: Object) -> CheckResult:
    """Check that Kueue queues what Windlass creates, and gives the quota of jobs back whose pods are not placed."""
    try:
        found = yaml.safe_load(config_map.get("data", {}).get(_KEY, ""))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, RecursionError):  # of values of tags
        found = None
    if not isinstance(found, dict):
        return failed(_NAME, f"ConfigMap {config_map['metadata']['name']} has no configuration", _ACTION)
    frameworks = _section(found, "integrations").get("frameworks")
    missing = [name for name in _FRAMEWORKS if name not in (frameworks if isinstance(frameworks, list) else ())]
    if missing:
        return failed(_NAME, f"Kueue does not manage {', '.join(missing)}", _ACTION)
    if _section(found, "resources").get("quotaCheckStrategy") != "IgnoreUndeclared":
        return failed(_NAME, "Kueue admits no pod with a request that its queue does not cover", _ACTION)
    if "waitForPodsReady" not in found:
        result = "a job whose pods fit no node holds its quota for 30 minutes, Kueue's default"
        return warning(_NAME, result, f"set waitForPodsReady: {_ACTION}")
    if str(_section(found, "waitForPodsReady").get("recoveryTimeout")) not in {"0", "0s"}:
        result = "Kueue evicts endpoints without replicas"
        return warning(_NAME, result, f"set waitForPodsReady.recoveryTimeout to 0s: {_ACTION}")
    return passed(_NAME, "manages jobs of Ray, and waits for their pods")


def _section(configuration: dict[str, Any], name: str) -> dict[str, Any]:
    section = configuration.get(name)
    return section if isinstance(section, dict) else {}
