"""The umbrella chart: what it installs and pins, and that its parts reach each other and nobody else does."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart, HelmError, lint
from tests.charts.pods import assert_restricted
from tests.charts.rendering import CHARTS, STACK, SYSTEM, is_hook, merged, objects_of, only, pod_templates
from tests.charts.stack import DEPENDENCIES, EVALUATION, assemble
from tests.testcluster import versions

import windlass
from windlass.domain.checks import CheckState
from windlass.kube.preflight.kueue_configuration import check_kueue_configuration
from windlass.kube.priority_classes import PRIORITY_CLASS_VALUES

Json = dict[str, Any]
Render = Callable[..., list[Json]]
OWN = {"windlass", "windlass-crds"}
PARTS = ("postgresql", "s3")


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assemble(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def render(assembled: Path) -> Render:
    def rendered(values: Json | None = None, namespace: str = SYSTEM) -> list[Json]:
        # Loaded each time: Helm removes the dependencies that are left out from the loaded chart.
        with Chart.load(assembled) as chart:
            text = chart.render(values=merged(EVALUATION, values or {}), name="windlass-stack", namespace=namespace)
        return objects_of(text)

    return rendered


def test_the_dependencies_are_pinned_and_not_copied() -> None:
    pinned = {each["name"]: each["version"] for each in DEPENDENCIES}
    groups = versions.read()
    tested = {"kueue": groups["kueue"].version[1:], "kuberay-operator": groups["kuberay"].version[1:]}
    assert pinned == tested | dict.fromkeys(OWN, windlass.__version__)
    for each in DEPENDENCIES:
        local = each["repository"].removeprefix("file://")
        assert (local != each["repository"]) == (each["name"] in OWN)
        assert each["name"] not in OWN or (STACK / local).resolve() == CHARTS / each["name"]


def test_the_chart_passes_lint_with_the_profile(assembled: Path) -> None:
    result = lint(assembled, values=EVALUATION, strict=True, with_subcharts=False)
    assert [each for each in result["messages"] if "icon is recommended" not in str(each)] == []


def test_a_second_render_is_identical_except_for_generated_secrets(render: Render) -> None:
    first, second = ([one for one in render() if one["kind"] != "Secret"] for _ in range(2))
    assert len(first) > 60
    assert first == second


@pytest.mark.parametrize(
    ("part", "names", "values"),
    [
        ("crds", {"CustomResourceDefinition"}, {}),
        ("kueue", {"kueue-stub", "kueue"}, {"windlass": {"kueue": {"namespace": "kueue-system"}}}),
        ("kuberay", {"kuberay-operator-stub", "kuberay-operator"}, {"windlass": {"kuberay": {"namespace": "ray"}}}),
        ("postgresql", {"windlass-postgresql"}, {"windlass": {"database": {"existingSecret": "own"}}}),
        ("s3", {"windlass-s3"}, {"windlass": {"objectStore": {"existingSecret": "own"}}}),
    ],
)
def test_each_part_can_be_left_out(render: Render, part: str, names: set[str], values: Json) -> None:
    def present(objects: list[Json]) -> set[tuple[str, str]]:
        return {(one["kind"], one["metadata"]["name"]) for one in objects}

    left_out = present(render()) - present(render(merged(values, {"install": {part: False}})))
    assert left_out
    assert {kind if part == "crds" else name for kind, name in left_out} == names


def test_without_windlass_only_what_the_cluster_lacks_is_installed(render: Render) -> None:
    objects = render({"install": {"windlass": False, "crds": False}})
    names = {one["metadata"]["name"] for one in objects}
    assert names == {"kueue-stub", "kuberay-operator-stub", "windlass-postgresql", "windlass-s3"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("postgresql", "install.postgresql is false, and windlass.database.existingSecret is the Secret of its"),
        ("s3", "install.s3 is false, and windlass.objectStore.existingSecret is the Secret of its S3 server"),
        ("kueue", "install.kueue is false: set windlass.kueue.namespace"),
        ("kuberay", "install.kuberay is false: set windlass.kuberay.namespace"),
    ],
)
def test_windlass_needs_a_connection_to_what_is_left_out(render: Render, part: str, message: str) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        render({"install": {part: False}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"install": {"minio": True}}, "at '/install': additional properties 'minio' not allowed"),
        ({"windlass": {"api": {"replica": 2}}}, "additional properties 'replica' not allowed"),
        ({"postgresql": {"persistence": {"size": "8"}}}, "at '/postgresql/persistence/size'"),
        ({"s3": {"runAsUser": 0}}, "at '/s3/runAsUser': minimum: got 0, want 1"),
        ({"postgresql": {"image": "two images"}}, "at '/postgresql/image'"),
    ],
)
def test_wrong_values_are_refused_with_the_field(render: Render, values: Json, message: str) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        render(values)


def test_objects_whose_definitions_the_release_installs_are_created_after_all_others(render: Render) -> None:
    """Helm looks up all kinds of a release before it creates the first object; those of hooks later."""
    objects = render(namespace="mlops")
    custom = [one for one in objects if one["apiVersion"].split("/")[0] in {"windlass.dev", "kueue.x-k8s.io"}]
    assert {one["kind"] for one in custom} == {"WorkloadPriorityClass", "GPUPool", "Project"}
    assert len(custom) == len(PRIORITY_CLASS_VALUES) + 2
    for one in custom:
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "post-install,post-upgrade"
        # Neither deleted before it is created again, nor after it was created.
        assert annotations["helm.sh/hook-delete-policy"] == "hook-failed"
        # By these, an upgrade adopts the object.
        assert annotations["meta.helm.sh/release-name"] == "windlass-stack"
        assert annotations["meta.helm.sh/release-namespace"] == "mlops"
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_nothing_runs_before_the_database_of_the_release_exists(render: Render) -> None:
    objects = render()
    hooks = {one["metadata"]["annotations"]["helm.sh/hook"] for one in objects if is_hook(one)}
    assert hooks == {"post-install,post-upgrade", "test", "pre-delete"}
    for name in ("windlass-api", "windlass-worker"):
        pod = only(objects, "Deployment", name)["spec"]["template"]["spec"]
        [migration] = pod["initContainers"]
        assert migration["args"] == ["python", "-m", "windlass.db", "upgrade", "--create-roles"]
        variables = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in migration["env"]}
        assert variables["WINDLASS_DATABASE_URL"] == {"name": "windlass-postgresql", "key": "url"}
        assert variables["WINDLASS_DATABASE_API_URL"] == {"name": "windlass-postgresql", "key": "api-url"}


def test_pods_comply_with_the_restricted_level_and_get_no_token(render: Render) -> None:
    servers = {name: pod for name, pod in pod_templates(render()).items() if name.startswith("StatefulSet ")}
    assert len(servers) == 2
    assert_restricted(servers)
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in servers.values())


def test_generated_secrets_are_kept_and_connect_windlass(render: Render) -> None:
    objects = render(namespace="mlops")
    database, store = (only(objects, "Secret", f"windlass-{part}") for part in PARTS)
    for secret in (database, store):
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    password, url = (base64.b64decode(database["data"][key]).decode() for key in ("password", "url"))
    assert len(password) == 32
    assert url == f"postgresql+psycopg://windlass:{password}@windlass-postgresql:5432/windlass"
    for key, role in (("api-url", "windlass_api"), ("worker-url", "windlass_worker")):
        own = base64.b64decode(database["data"][key]).decode()
        assert re.fullmatch(rf"postgresql\+psycopg://{role}:\w{{32}}@windlass-postgresql:5432/windlass", own)
    api = only(objects, "Deployment", "windlass-api")["spec"]["template"]["spec"]["containers"][0]
    variables = {each["name"]: each for each in api["env"]}
    # Pods of projects are in other namespaces.
    assert variables["WINDLASS_S3_ENDPOINT"]["value"] == "http://windlass-s3.mlops.svc:7070"
    for name in ("WINDLASS_S3_ACCESS_KEY_ID", "WINDLASS_S3_SECRET_ACCESS_KEY"):
        reference = variables[name]["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "windlass-s3"
        assert reference["key"] in store["data"]


def test_the_bucket_of_windlass_is_created(render: Render) -> None:
    [bucket] = pod_templates(render({"windlass": {"objectStore": {"bucket": "models"}}}))["StatefulSet windlass-s3"][
        "spec"
    ]["initContainers"]
    assert bucket["command"][-1] == "/data/objects/models"


def test_data_is_on_a_claim_unless_persistence_is_off(render: Render) -> None:
    for part in PARTS:
        spec = only(render(), "StatefulSet", f"windlass-{part}")["spec"]
        [claim] = spec["volumeClaimTemplates"]
        assert claim["metadata"]["name"] == "data"
        assert "storageClassName" not in claim["spec"]
        values = {part: {"persistence": {"enabled": False}}}
        spec = only(render(values), "StatefulSet", f"windlass-{part}")["spec"]
        assert "volumeClaimTemplates" not in spec
        assert {"name": "data", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


def test_the_policies_trust_the_accounts_of_this_release(render: Render) -> None:
    objects = render(namespace="mlops")
    text = yaml.safe_dump([one for one in objects if one["kind"] == "ValidatingAdmissionPolicy"])
    assert "system:serviceaccount:mlops:kueue-controller-manager" in text
    assert "system:serviceaccount:mlops:kuberay-operator" in text
    assert "kueue-system" not in text
    given = {name: _stub_values(objects, name) for name in ("kueue", "kuberay-operator")}
    assert given["kueue"]["fullnameOverride"] == "kueue"
    assert given["kuberay-operator"]["serviceAccount"]["name"] == "kuberay-operator"
    configuration = given["kueue"]["managerConfig"]["controllerManagerConfigYaml"]
    config_map = {"metadata": {"name": "kueue"}, "data": {"controller_manager_config.yaml": configuration}}
    assert check_kueue_configuration(config_map).state is CheckState.OK


def _stub_values(objects: list[Json], chart: str) -> Json:
    values: Json = yaml.safe_load(only(objects, "ConfigMap", f"{chart}-stub")["data"]["values"])
    return values


def test_servers_accept_only_windlass_and_pods_of_its_projects(render: Render) -> None:
    objects = render()
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    for part, port in (("postgresql", 5432), ("s3", 7070)):
        policy = policies[f"windlass-{part}"]
        labels = pod_templates(objects)[f"StatefulSet windlass-{part}"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert "egress" not in policy
        [rule] = policy["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": port}]
        # The peers of Windlass' own policies are these pods.
        [egress] = [each for each in policies["windlass-api"]["egress"] if each["ports"][0]["port"] == port]
        assert egress["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    without = render({"windlass": {"networkPolicy": {"enabled": False}}})
    assert [one for one in without if one["kind"] == "NetworkPolicy"] == []
