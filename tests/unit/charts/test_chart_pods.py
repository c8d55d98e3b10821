"""The pods of the chart, and what connects them: images, security, settings, Services, disruption."""

from pathlib import Path
from typing import Any

import pytest
from docs.generate import settings_groups
from tests.charts.pods import assert_restricted, containers
from tests.charts.rendering import PROFILES, is_hook, only, pod_templates, profile, render

from windlass.kube.workloads import WORKER_DEPLOYMENT, WORKER_SELECTOR
from windlass_api import uninstall
from windlass_api.cluster import REPLICA_SHUTDOWN

Json = dict[str, Any]
profiles = pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
DEPLOYMENTS = ("windlass-api", "windlass-operators", "windlass-worker")


@profiles
def test_every_pod_complies_with_the_restricted_level_and_has_a_read_only_root(path: Path) -> None:
    templates = pod_templates(render(profile(path)))
    assert len(templates) >= 5
    assert_restricted(templates)


@profiles
def test_only_pods_with_permissions_in_the_cluster_get_a_token(path: Path) -> None:
    objects = render(profile(path))
    bound = {
        subject["name"]
        for one in objects
        if one["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        for subject in one["subjects"]
    }
    for name, pod in pod_templates(objects).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] in bound), name
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert all(one["automountServiceAccountToken"] is False for one in accounts)


def test_every_pod_mounts_the_ca_bundle_and_those_with_a_database_name_it() -> None:
    for template in pod_templates(render()).values():
        assert not [each for each in template["spec"]["volumes"] if each["name"] == "ca-bundle"]
    templates = pod_templates(
        render({"caBundle": {"configMap": "company-ca", "key": "root.pem"}, "migration": {"initContainer": True}})
    )
    for name, template in templates.items():
        [volume] = [each for each in template["spec"]["volumes"] if each["name"] == "ca-bundle"]
        items = [{"key": "root.pem", "path": "ca.crt"}]
        assert volume["configMap"] == {"name": "company-ca", "items": items}, name
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            variables = {each["name"]: each.get("value") for each in container["env"]}
            assert mounts["ca-bundle"] == "/etc/windlass/ca"
            if "WINDLASS_DATABASE_URL" in variables:
                assert variables["WINDLASS_CA_BUNDLE"] == "/etc/windlass/ca/ca.crt", name


def test_images_are_composed_from_registry_repository_tag_and_digest() -> None:
    digest = "sha256:" + "0" * 64
    images = {
        "registry": "registry.example.com/",
        "tag": "1.2",
        "operators": {"digest": digest},
        "pullSecrets": ["pull"],
    }
    images["controlPlane"] = {"repository": "team/control-plane", "tag": "1.3"}
    objects = render({"images": images})
    found = {name: only(objects, "Deployment", name)["spec"]["template"]["spec"] for name in DEPLOYMENTS}
    assert found["windlass-api"]["containers"][0]["image"] == "registry.example.com/team/control-plane:1.3"
    assert found["windlass-operators"]["containers"][0]["image"] == f"registry.example.com/windlass/operators@{digest}"
    accounts = [one for one in objects if one["kind"] == "ServiceAccount"]
    assert all(one["imagePullSecrets"] == [{"name": "pull"}] for one in accounts)
    # The tag of a chart without values is its version.
    assert containers(pod_templates(render())["Deployment windlass-api"])[0]["image"] == "windlass/control-plane:0.1.0"


def test_every_variable_of_a_pod_is_a_setting_of_the_code() -> None:
    known = {
        f"{group.model_config.get('env_prefix', '')}{name.upper()}"
        for group in settings_groups()
        for name in group.model_fields
    }
    objects = render()
    variables = {
        each["name"] for pod in pod_templates(objects).values() for c in containers(pod) for each in c.get("env", [])
    }
    assert variables
    assert variables - known == set()


def test_every_referenced_secret_and_config_map_is_part_of_the_release() -> None:
    objects = render()
    existing = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    for name, pod in pod_templates(objects).items():
        for each in containers(pod):
            for variable in each.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    secret = existing["Secret", reference["name"]]
                    assert reference["key"] in (secret.get("data") or secret["stringData"]), name
            for source in each.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in existing


def test_existing_secrets_take_the_place_of_those_of_the_chart() -> None:
    values = {
        "database": {"url": "", "existingSecret": "db", "existingSecretKey": "uri"},
        "objectStore": {"accessKeyId": "", "secretAccessKey": "", "existingSecret": "s3"},
        "secrets": {"existingSecret": "own", "existingSecretPepperKey": "p", "existingSecretAdminKeyKey": "a"},
    }
    objects = render(values)
    assert [one for one in objects if one["kind"] == "Secret"] == []
    references = {
        (ref["name"], ref["key"])
        for pod in pod_templates(objects).values()
        for each in containers(pod)
        for variable in each.get("env", [])
        if (ref := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert references == {("db", "uri"), ("s3", "accessKeyId"), ("s3", "secretAccessKey"), ("own", "p"), ("own", "a")}


def database_keys(objects: list[Json]) -> dict[str, dict[str, str]]:
    """The keys of the Secret that each container gets as variables of the database, by component and container."""
    return {
        f"{name} {each['name']}": {
            variable["name"]: variable["valueFrom"]["secretKeyRef"]["key"]
            for variable in each.get("env", [])
            if variable["name"].startswith("WINDLASS_DATABASE")
        }
        for name, pod in pod_templates(objects).items()
        for each in containers(pod)
    }


OWN_URLS = {"apiUrl": "postgresql+psycopg://windlass_api:a@db/windlass", "workerUrl": "postgresql+psycopg://w:w@db/w"}
OWN_KEYS = {"existingSecret": "db", "existingSecretApiKey": "api", "existingSecretWorkerKey": "worker"}


@pytest.mark.parametrize(
    ("database", "keys"),
    [
        ({}, ("url", "url", "url")),
        (OWN_URLS, ("api-url", "worker-url", "url")),
        ({"existingSecret": "db"}, ("url", "url", "url")),
        (OWN_KEYS, ("api", "worker", "url")),
    ],
)
def test_each_component_has_the_url_of_its_role_only(database: Json, keys: tuple[str, str, str]) -> None:
    found = {name: keys for name, keys in database_keys(render({"database": database})).items() if keys}
    by_container = {name.rpartition(" ")[2]: variables for name, variables in found.items()}
    api, worker, owner = ({"WINDLASS_DATABASE_URL": key} for key in keys)
    assert by_container == {"api": api, "worker": worker, "migration": owner, "preflight": api}


@pytest.mark.parametrize("is_hook", [True, False])
def test_a_migration_that_creates_the_roles_has_their_urls(*, is_hook: bool) -> None:
    values = {
        "database": {**OWN_URLS, "createRoles": True},
        "migration": {"enabled": is_hook, "initContainer": not is_hook},
    }
    objects = render(values)
    keys = [found for name, found in database_keys(objects).items() if name.endswith(" migration")]
    expected = {
        "WINDLASS_DATABASE_URL": "url",
        "WINDLASS_DATABASE_API_URL": "api-url",
        "WINDLASS_DATABASE_WORKER_URL": "worker-url",
    }
    assert keys == [expected] * (1 if is_hook else 2)
    migrations = [
        one for pod in pod_templates(objects).values() for one in containers(pod) if one["name"] == "migration"
    ]
    assert {tuple(each["args"]) for each in migrations} == {
        ("python", "-m", "windlass.db", "upgrade", "--create-roles")
    }


def test_without_keys_of_the_object_store_the_pods_use_the_role_of_their_account() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/windlass"}
    keys = {"accessKeyId": "", "secretAccessKey": ""}
    objects = render({"objectStore": keys, "api": {"serviceAccountAnnotations": role}})
    api = only(objects, "Deployment", "windlass-api")["spec"]["template"]["spec"]["containers"][0]
    assert not {"WINDLASS_S3_ACCESS_KEY_ID", "WINDLASS_S3_SECRET_ACCESS_KEY"} & {each["name"] for each in api["env"]}
    assert only(objects, "ServiceAccount", "windlass-api")["metadata"]["annotations"] == role
    assert "windlass-object-store" not in {one["metadata"]["name"] for one in objects}


def test_every_service_selects_the_pods_of_a_deployment_and_a_port_of_them() -> None:
    objects = render()
    templates = [one["spec"]["template"] for one in objects if one["kind"] == "Deployment"]
    services = [one for one in objects if one["kind"] == "Service"]
    assert {(one["metadata"]["name"], one["spec"]["ports"][0]["port"]) for one in services} == {
        ("windlass-api", 8741),
        ("windlass-internal", 8742),
    }
    for service in services:
        wanted = service["spec"]["selector"].items()
        [pod] = [each for each in templates if wanted <= each["metadata"]["labels"].items()]
        ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_a_budget_exists_only_for_several_replicas_and_autoscaling_sets_none() -> None:
    single = render()
    assert [one for one in single if one["kind"] in {"PodDisruptionBudget", "HorizontalPodAutoscaler"}] == []
    several = render(
        {"api": {"autoscaling": {"enabled": True}}, "worker": {"replicas": 2}, "operators": {"replicas": 3}}
    )
    budgets = [one for one in several if one["kind"] == "PodDisruptionBudget"]
    assert sorted(one["metadata"]["name"] for one in budgets) == sorted(DEPLOYMENTS)
    for one in budgets:
        pod = only(several, "Deployment", one["metadata"]["name"])["spec"]["template"]
        assert one["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert "replicas" not in only(several, "Deployment", "windlass-api")["spec"]
    assert only(several, "HorizontalPodAutoscaler", "windlass-api")["spec"]["minReplicas"] == 2


def test_pods_restart_when_a_setting_or_a_secret_of_the_values_changes() -> None:
    def digests(values: Json) -> set[str]:
        objects = [only(render(values), "Deployment", name) for name in DEPLOYMENTS]
        return {one["spec"]["template"]["metadata"]["annotations"]["windlass.dev/settings"] for one in objects}

    before = digests({})
    assert len(before) == 1
    assert digests({"settings": {"WINDLASS_LIMIT_MAX_ENDPOINTS": 9}}) != before
    assert digests({"objectStore": {"secretAccessKey": "other"}}) != before


def test_settings_are_strings_of_a_config_map() -> None:
    values = {"WINDLASS_LIMIT_UPLOAD_BYTES": 21474836480, "WINDLASS_WORKER_TICK_SECONDS": 0.25}
    found = only(render({"settings": values}), "ConfigMap", "windlass-settings")["data"]
    assert found == {"WINDLASS_LIMIT_UPLOAD_BYTES": "21474836480", "WINDLASS_WORKER_TICK_SECONDS": "0.25"}


def test_scheduling_values_hold_for_all_pods_unless_a_component_replaces_them() -> None:
    values = {
        "nodeSelector": {"pool": "system"},
        "podAnnotations": {"a": "1"},
        "worker": {"nodeSelector": {"pool": "big"}},
    }
    templates = pod_templates(render(values | {"tolerations": [{"key": "system", "operator": "Exists"}]}))
    selectors = {name: pod["spec"]["nodeSelector"]["pool"] for name, pod in templates.items()}
    assert selectors.pop("Deployment windlass-worker") == "big"
    assert set(selectors.values()) == {"system"}
    assert all(pod["spec"]["tolerations"] for pod in templates.values())
    assert all(pod["metadata"]["annotations"]["a"] == "1" for pod in templates.values())


def test_the_migration_runs_before_the_release_with_objects_of_its_own() -> None:
    objects = [one for one in render() if is_hook(one) and one["metadata"]["name"] == "windlass-migration"]
    weights = {one["kind"]: int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in objects}
    assert weights == {"ServiceAccount": -10, "Secret": -10, "Job": 0}
    assert all(one["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade" for one in objects)
    [job] = [one for one in objects if one["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["python", "-m", "windlass.db", "upgrade"]
    names = {one["metadata"]["name"] for one in render({"migration": {"enabled": False}})}
    assert "windlass-migration" not in names


def test_jobs_and_model_servers_end_before_the_release_is_deleted() -> None:
    objects = render()
    hooks = [one for one in objects if is_hook(one) and one["metadata"]["name"] == "windlass-uninstall"]
    assert {one["metadata"]["annotations"]["helm.sh/hook"] for one in hooks} == {"pre-delete"}
    [job] = [one for one in hooks if one["kind"] == "Job"]
    rest = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks if one is not job]
    assert max(rest) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["python", "-m", uninstall.__name__]
    worker = only(objects, "Deployment", WORKER_DEPLOYMENT)["spec"]["template"]["metadata"]["labels"]
    selector = dict(part.split("=") for part in WORKER_SELECTOR.split(","))
    assert selector.items() <= worker.items()
    for name, pod in pod_templates(objects).items():
        if name != f"Deployment {WORKER_DEPLOYMENT}":
            assert not selector.items() <= pod["metadata"].get("labels", {}).items(), name


def test_a_new_pod_of_the_api_is_ready_before_an_old_one_drains_and_ends() -> None:
    api = only(render(), "Deployment", "windlass-api")["spec"]
    assert api["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    stops_within = REPLICA_SHUTDOWN.drain_seconds + REPLICA_SHUTDOWN.request_seconds
    assert api["template"]["spec"]["terminationGracePeriodSeconds"] > stops_within


def test_the_migration_may_run_in_the_pods_instead() -> None:
    objects = render({"migration": {"enabled": False, "initContainer": True}})
    for name in DEPLOYMENTS:
        pod = only(objects, "Deployment", name)["spec"]["template"]["spec"]
        assert [each["name"] for each in pod.get("initContainers", [])] == (
            [] if name == "windlass-operators" else ["migration"]
        )
    assert "initContainers" not in only(render(), "Deployment", "windlass-api")["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("component", "pods"),
    [
        ("api", ["Deployment windlass-api", "Pod windlass-preflight"]),
        ("worker", ["Deployment windlass-worker"]),
        ("operators", ["Deployment windlass-operators"]),
        ("migration", ["Job windlass-migration"]),
    ],
)
def test_pods_get_further_variables_volumes_and_mounts(component: str, pods: list[str]) -> None:
    """Such as the certificate authority of a database or of an object store."""
    variable, volume = {"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}, {"name": "ca", "secret": {"secretName": "ca"}}
    mount = {"name": "ca", "mountPath": "/ca"}
    values = {"extraEnv": [variable], "extraVolumes": [volume], "extraVolumeMounts": [mount]}
    extended = []
    for name, pod in pod_templates(render({component: values})).items():
        [container] = containers(pod)
        found = [variable in container["env"], volume in pod["spec"]["volumes"], mount in container["volumeMounts"]]
        assert found in ([True] * 3, [False] * 3), name
        extended += [name] if found[0] else []
    assert sorted(extended) == pods


def test_the_init_container_has_the_variables_and_mounts_of_its_pod() -> None:
    mount = {"name": "ca", "mountPath": "/ca"}
    volumes = {"extraVolumes": [{"name": "ca", "emptyDir": {}}], "extraVolumeMounts": [mount]}
    objects = render({"migration": {"enabled": False, "initContainer": True}, "api": volumes})
    for name, expected in (("windlass-api", True), ("windlass-worker", False)):
        [migration] = only(objects, "Deployment", name)["spec"]["template"]["spec"]["initContainers"]
        assert (mount in migration["volumeMounts"]) is expected


def test_replicas_are_spread_unless_the_values_say_how() -> None:
    own = [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    objects = render({"worker": {"topologySpreadConstraints": own}})
    spread = {
        name: only(objects, "Deployment", name)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        for name in DEPLOYMENTS
    }
    assert spread.pop("windlass-worker") == own
    for name, constraints in spread.items():
        assert {one["topologyKey"] for one in constraints} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        labels = only(objects, "Deployment", name)["spec"]["template"]["metadata"]["labels"].items()
        assert all(one["labelSelector"]["matchLabels"].items() <= labels for one in constraints)


def test_the_api_is_attached_to_a_gateway_or_an_ingress() -> None:
    gateway = {"name": "public", "namespace": "gateways"}
    objects = render(
        {
            "httpRoute": {"enabled": True, "parentRefs": [gateway], "hostnames": ["mlops.example.com"]},
            "ingress": {"enabled": True, "host": "mlops.example.com", "tlsSecret": "tls", "className": "nginx"},
        }
    )
    route = only(objects, "HTTPRoute", "windlass-api")["spec"]
    assert (route["parentRefs"], route["hostnames"]) == ([gateway], ["mlops.example.com"])
    assert route["rules"][0]["backendRefs"] == [{"name": "windlass-api", "port": 8741}]
    ingress = only(objects, "Ingress", "windlass-api")["spec"]
    assert ingress["tls"] == [{"hosts": ["mlops.example.com"], "secretName": "tls"}]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "windlass-api", "port": {"name": "http"}}
    assert not {"HTTPRoute", "Ingress"} & {one["kind"] for one in render()}
