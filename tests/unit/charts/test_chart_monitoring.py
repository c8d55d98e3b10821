"""Alert rules and the dashboard use metrics that the code exports."""

import json
import re

import yaml
from tests.architecture.tree import ROOT
from tests.charts.rendering import CHART, only, render

from windlass_api import metrics as api_metrics
from windlass_operators import metrics as operator_metrics

ALERTS = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))
ALERT_TESTS = ROOT / "tests" / "charts" / "alerts-test.yaml"
GUIDE = "docs/guides/operate.md"
NAME = re.compile(r"\bwindlass_[a-z_]+")
LABELS = re.compile(r"by \(([a-z, ]+)\)")


def exported() -> set[str]:
    """Names of series, with the suffixes of counters and histograms."""
    registries = (api_metrics.REGISTRY, operator_metrics.REGISTRY)
    names: set[str] = set()
    for family in (family for registry in registries for family in registry.collect()):
        suffix = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {f"{family.name}{each}" for each in suffix}
    return names


def test_every_alert_uses_exported_metrics_and_says_what_happens() -> None:
    known = exported()
    for rule in ALERTS:
        names = NAME.findall(rule["expr"])
        assert names, rule["alert"]
        assert set(names) <= known, rule["alert"]
        assert rule["for"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        shown = re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"]))
        grouped = {each.strip() for labels in LABELS.findall(rule["expr"]) for each in labels.split(",")}
        assert set(shown) <= grouped, rule["alert"]


def test_every_alert_links_to_its_section_of_the_guide() -> None:
    text = (ROOT / GUIDE).read_text("utf-8")
    alerts = text[text.index("\n## Alerts\n") :].split("\n## ")[1]
    sections = re.findall(r"^### (\w+)\n\n(.+)", alerts, re.MULTILINE)
    assert [name for name, _ in sections] == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"] == f"{GUIDE}#{rule['alert'].lower()}"


def test_the_guide_explains_every_exported_metric() -> None:
    table = re.findall(r"^\| `(windlass_[a-z_]+)` \|", (ROOT / GUIDE).read_text("utf-8"), re.MULTILINE)
    assert len(table) == len(set(table))
    assert set(table) == {re.sub("_(bucket|sum|count)$", "", name) for name in exported()}


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    """They are run by tests/integration/cluster/test_chart_tools.py, which needs Go."""
    cases = yaml.safe_load(ALERT_TESTS.read_text("utf-8"))["tests"]
    expectations = [one for case in cases for one in case["alert_rule_test"]]
    names = {rule["alert"] for rule in ALERTS}
    assert {one["alertname"] for one in expectations if one.get("exp_alerts")} == names
    assert {one["alertname"] for one in expectations if not one.get("exp_alerts")} == names


def test_the_dashboard_shows_exported_metrics() -> None:
    found = only(render({"monitoring": {"enabled": True}}), "ConfigMap", "windlass-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    panels = json.loads(found["data"]["windlass.json"])["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 10
    assert {name for each in expressions for name in NAME.findall(each)} <= exported()
