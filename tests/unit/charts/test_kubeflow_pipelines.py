"""The chart of the Kubeflow Pipelines server: pods, images, settings that its programs need."""

import base64
import json
import re
from typing import Any

import pytest
import yaml
from helm_python import HelmError, lint
from tests.architecture.tree import ROOT
from tests.charts import rendering
from tests.charts.pipelines import (
    NAMESPACE,
    PIPELINES,
    REQUIRED,
    network_policies,
    pipelines_notes,
    render_pipelines,
)
from tests.charts.pods import assert_restricted, containers
from tests.charts.rendering import merged, only, pod_templates

Json = dict[str, Any]
GUIDE = ROOT / "docs" / "guides" / "use-a-kubeflow-pipelines-server.md"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
STATEFUL = "StatefulSet mysql"
API_SERVER = "Deployment ml-pipeline"


def environment(owner: str, values: Json | None = None) -> Json:
    """The variables of the only container of a pod."""
    [container] = pod_templates(render_pipelines(values))[owner]["spec"]["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def settings(name: str, key: str, values: Json | None = None) -> Any:
    """The content of a key of a ConfigMap."""
    return yaml.safe_load(only(render_pipelines(values), "ConfigMap", name)["data"][key])


def image_names() -> list[str]:
    values = yaml.safe_load((PIPELINES / "values.yaml").read_text("utf-8"))
    return [name for name, value in values["images"].items() if isinstance(value, dict)]


def test_the_chart_passes_lint() -> None:
    result = lint(PIPELINES, values=REQUIRED, strict=True)
    assert [each for each in result["messages"] if "icon is recommended" not in str(each)] == []


def test_a_second_render_is_identical_except_for_the_generated_passwords() -> None:
    def rendered() -> list[Json]:
        return [one for one in render_pipelines() if one["metadata"]["name"] != "kubeflow-pipelines-mysql"]

    assert len(rendered()) > 40
    assert rendered() == rendered()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"apiServer": {"replicas": 2}}, "at '/apiServer': additional properties 'replicas' not allowed"),
        ({"minio": {}}, "additional properties 'minio' not allowed"),
        ({"images": {"driver": {"digest": "sha256:1"}}}, "at '/images/driver/digest'"),
        ({"images": {"driver": {"tag": ""}}}, "at '/images/driver/tag'"),
        ({"mysql": {"runAsUser": 0}}, "at '/mysql/runAsUser': minimum: got 0, want 1"),
        ({"runs": {"keepSeconds": 1}}, "at '/runs/keepSeconds'"),
        ({"networkPolicy": {"apiFrom": [{"pods": {}}]}}, "additional properties 'pods' not allowed"),
        ({"objectStore": {"endpoint": ""}}, "objectStore.endpoint is not set"),
        ({"objectStore": {"endpoint": "s3.example.com"}}, 'objectStore.endpoint "s3.example.com" is not a URL'),
        ({"objectStore": {"accessKeyId": ""}}, "objectStore.accessKeyId is not set"),
        ({"windlass": {"namespace": NAMESPACE}}, "windlass.namespace is the namespace of this release"),
        ({"images": {"requireDigests": True}}, "digest is not set, and images.requireDigests is true"),
    ],
)
def test_wrong_values_are_refused_with_the_field(values: Json, message: str) -> None:
    with pytest.raises(HelmError, match=re.escape(message)):
        render_pipelines(values)


def test_every_pod_complies_with_the_restricted_level_and_has_a_read_only_root() -> None:
    templates = pod_templates(render_pipelines())
    assert len(templates) == 5
    assert_restricted(templates)
    for name, pod in templates.items():
        mounts = {each["mountPath"] for each in containers(pod)[0]["volumeMounts"]}
        assert "/tmp" in mounts, name  # noqa: S108 - a path in a pod
        # A Service named like a program would change the program's settings by variables.
        assert pod["spec"]["enableServiceLinks"] is False, name
    mysql = containers(templates[STATEFUL])[0]["volumeMounts"]
    assert {"/var/lib/mysql", "/var/run/mysqld"} <= {each["mountPath"] for each in mysql}


def test_images_have_a_tag_and_a_digest_where_it_is_set() -> None:
    values = {"images": {name: {"digest": DIGEST} for name in image_names()} | {"requireDigests": True}}
    objects = render_pipelines(values)
    used = [each["image"] for pod in pod_templates(objects).values() for each in containers(pod)]
    server = environment(API_SERVER, values)
    used += [server["V2_DRIVER_IMAGE"], server["V2_LAUNCHER_IMAGE"]]
    [controller] = pod_templates(objects)["Deployment workflow-controller"]["spec"]["containers"]
    used += [each.partition("=")[2] for each in controller["args"] if each.startswith("--executor-image=")]
    assert len(used) == len(set(used)) == len(image_names())
    assert all(re.fullmatch(rf"[a-z0-9./_-]+:v?[0-9]+\.[0-9]+\.[0-9]+@{DIGEST}", each) for each in used)


def test_the_versions_of_parts_that_belong_together_are_equal() -> None:
    images = yaml.safe_load((PIPELINES / "values.yaml").read_text("utf-8"))["images"]
    version = yaml.safe_load((PIPELINES / "Chart.yaml").read_text("utf-8"))["appVersion"]
    assert {images[name]["tag"] for name in ("apiServer", "persistenceAgent", "driver", "launcher")} == {version}
    assert images["workflowController"]["tag"] == images["workflowExecutor"]["tag"]


def test_the_guide_pins_every_image_that_has_no_digest() -> None:
    images = yaml.safe_load((PIPELINES / "values.yaml").read_text("utf-8"))["images"]
    open_images = {
        f"{name}={images[name]['repository']}:{images[name]['tag']}"
        for name in image_names()
        if not images[name]["digest"]
    }
    assert set(re.findall(r"^>   (\w+=\S+)", GUIDE.read_text("utf-8"), re.MULTILINE)) == open_images
    named = re.search(r"Images without a digest: (.*)\. Set", pipelines_notes())
    assert named is not None
    assert set(named[1].split(", ")) == {each.partition("=")[0] for each in open_images}


def test_the_api_server_gets_the_settings_without_which_it_does_not_start() -> None:
    found = environment(API_SERVER)
    assert found["DBDRIVERNAME"] == "mysql"
    assert found["DBCONFIG_MYSQLCONFIG_HOST"] == only(render_pipelines(), "Service", "mysql")["metadata"]["name"]
    assert found["ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_HOST"]
    assert found["ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_PORT"]
    assert found["V2_DRIVER_IMAGE"] == "ghcr.io/kubeflow/kfp-driver:2.17.0"
    pod = pod_templates(render_pipelines())[API_SERVER]["spec"]
    [container] = pod["containers"]
    [config] = [each for each in pod["volumes"] if each["name"] == "config"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "config"]
    assert f"--config={mount['mountPath']}" in container["args"]
    content = json.loads(only(render_pipelines(), "ConfigMap", config["configMap"]["name"])["data"]["config.json"])
    assert content["DefaultPipelineRunnerServiceAccount"] == "pipeline-runner"
    probe = container["startupProbe"]
    # InitConnectionTimeout.
    assert probe["periodSeconds"] * probe["failureThreshold"] > 6 * 60


def test_the_api_server_reads_logs_where_argo_archives_them() -> None:
    repository = settings("workflow-controller-configmap", "artifactRepository")
    assert repository["archiveLogs"] is True
    content = settings("ml-pipeline", "config.json")
    prefix = content["ARCHIVE_CONFIG_LOG_PATH_PREFIX"]
    assert content["ARCHIVE_CONFIG_LOG_FILE_NAME"] == "main.log"
    assert repository["s3"]["keyFormat"] == f"{prefix}/{{{{workflow.name}}}}/{{{{pod.name}}}}"


@pytest.mark.parametrize(
    ("endpoint", "secure", "host", "port"),
    [
        ("https://s3.example.com", True, "s3.example.com", 443),
        ("http://windlass-s3.windlass-system.svc:7070", False, "windlass-s3.windlass-system.svc", 7070),
        ("http://s3.{{ .Values.windlass.namespace }}.svc", False, "s3.windlass-system.svc", 80),
    ],
)
def test_every_program_gets_the_same_object_store(endpoint: str, secure: bool, host: str, port: int) -> None:
    values = {"objectStore": {"endpoint": endpoint, "bucket": "runs", "region": "eu-1", "existingSecret": "own"}}
    server = environment(API_SERVER, values)
    assert (server["OBJECTSTORECONFIG_HOST"], server["OBJECTSTORECONFIG_PORT"]) == (host, str(port))
    assert server["OBJECTSTORECONFIG_SECURE"] == str(secure).lower()
    assert server["OBJECTSTORECONFIG_BUCKETNAME"] == "runs"
    assert server["OBJECTSTORECONFIG_ACCESSKEY"]["secretKeyRef"] == {"name": "own", "key": "accessKeyId"}
    argo = settings("workflow-controller-configmap", "artifactRepository", values)["s3"]
    assert (argo["endpoint"], argo["insecure"], argo["bucket"]) == (f"{host}:{port}", not secure, "runs")
    assert argo["secretKeySecret"] == {"name": "own", "key": "secretAccessKey"}
    assert settings("kfp-launcher", "defaultPipelineRoot", values) == "minio://runs/v2/artifacts"
    launcher = settings("kfp-launcher", "providers", values)["minio"]["default"]
    assert (launcher["endpoint"], launcher["disableSSL"], launcher["region"]) == (f"{host}:{port}", not secure, "eu-1")
    assert launcher["forcePathStyle"] is True
    assert launcher["credentials"] == {
        "fromEnv": False,
        "secretRef": {"secretName": "own", "accessKeyKey": "accessKeyId", "secretKeyKey": "secretAccessKey"},
    }
    assert "kubeflow-pipelines-object-store" not in {one["metadata"]["name"] for one in render_pipelines(values)}
    policies = network_policies(values)
    for name in ("ml-pipeline", "runs"):
        assert {"ports": [{"protocol": "TCP", "port": port}]} in policies[name]["egress"]


def test_the_controller_serves_its_namespace_with_a_short_requeue_time() -> None:
    [container] = pod_templates(render_pipelines())["Deployment workflow-controller"]["spec"]["containers"]
    assert "--namespaced" in container["args"]
    assert "--executor-image=quay.io/argoproj/argoexec:v4.0.5" in container["args"]
    assert environment("Deployment workflow-controller")["DEFAULT_REQUEUE_TIME"] == "1s"
    security = settings("workflow-controller-configmap", "executor")["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 65532
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_lost_pods_are_retried_unless_the_values_leave_retries_to_pipelines() -> None:
    defaults = settings("workflow-controller-configmap", "workflowDefaults")["spec"]
    assert defaults["templateDefaults"] == {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}}
    without = settings("workflow-controller-configmap", "workflowDefaults", {"runs": {"retriesOfLostPods": 0}})
    assert without["spec"] == {"ttlStrategy": {"secondsAfterCompletion": 86400}}


def test_the_agent_reads_a_token_for_the_api_server() -> None:
    pod = pod_templates(render_pipelines())["Deployment ml-pipeline-persistenceagent"]["spec"]
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "token"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "token"]
    [source] = volume["projected"]["sources"]
    path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    assert path == "/var/run/secrets/kubeflow/tokens/persistenceagent-sa-token"
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


def test_runs_find_the_metadata_server_by_its_fixed_name() -> None:
    service = only(render_pipelines(), "Service", "metadata-grpc-service")
    assert service["spec"]["ports"][0]["port"] == 8080
    pod = pod_templates(render_pipelines())["Deployment metadata-grpc-service"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_the_servers_own_two_databases_and_root_is_not_reachable() -> None:
    script = only(render_pipelines(), "ConfigMap", "mysql-init")["data"]["metadata.sql"]
    found = environment(STATEFUL)
    assert found["MYSQL_DATABASE"] == environment(API_SERVER)["DBCONFIG_MYSQLCONFIG_DBNAME"]
    assert found["MYSQL_USER"] == environment(API_SERVER)["DBCONFIG_MYSQLCONFIG_USER"]
    assert found["MYSQL_ROOT_HOST"] == "localhost"
    templates = pod_templates(render_pipelines())
    arguments = templates["Deployment metadata-grpc-service"]["spec"]["containers"][0]["args"]
    options = dict(each.removeprefix("--").split("=") for each in arguments)
    assert f"GRANT ALL ON {options['mysql_config_database']}.* TO '{options['mysql_config_user']}'@'%'" in script
    # The metadata server has no other method.
    mysql = templates[STATEFUL]["spec"]["containers"][0]["args"]
    assert {"--mysql-native-password=ON", "--authentication-policy=mysql_native_password"} <= set(mysql)


@pytest.mark.parametrize("secret", ["kubeflow-pipelines-mysql", "own"])
def test_all_programs_get_the_passwords_from_one_secret(secret: str) -> None:
    values: Json = {"mysql": {"existingSecretPasswordKey": "p", "existingSecretRootPasswordKey": "r"}}
    key, root = "password", "root-password"
    if secret == "own":
        values["mysql"]["existingSecret"] = secret
        key, root = "p", "r"
    expected = {"secretKeyRef": {"name": secret, "key": key}}
    assert environment(STATEFUL, values)["MYSQL_PASSWORD"] == expected
    assert environment(STATEFUL, values)["MYSQL_ROOT_PASSWORD"]["secretKeyRef"] == {"name": secret, "key": root}
    assert environment(API_SERVER, values)["DBCONFIG_MYSQLCONFIG_PASSWORD"] == expected
    assert environment("Deployment metadata-grpc-service", values)["MYSQL_PASSWORD"] == expected
    generated = [one for one in render_pipelines(values) if one["metadata"]["name"] == "kubeflow-pipelines-mysql"]
    assert bool(generated) == (secret != "own")


def test_generated_passwords_are_kept_with_the_volume() -> None:
    secret = only(render_pipelines(), "Secret", "kubeflow-pipelines-mysql")
    passwords = [base64.b64decode(each).decode() for each in secret["data"].values()]
    assert [len(each) for each in passwords] == [32, 32]
    assert passwords[0] != passwords[1]
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    spec = only(render_pipelines(), "StatefulSet", "mysql")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    [claim] = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"


@pytest.mark.parametrize("persistence", [{"keep": False}, {"enabled": False}])
def test_passwords_end_with_a_volume_that_is_not_kept(persistence: Json) -> None:
    objects = render_pipelines({"mysql": {"persistence": persistence}})
    assert "annotations" not in only(objects, "Secret", "kubeflow-pipelines-mysql")["metadata"]
    spec = only(objects, "StatefulSet", "mysql")["spec"]
    if "keep" in persistence:
        assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    else:
        assert "volumeClaimTemplates" not in spec
        assert {"name": "data", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


def test_the_definitions_are_kept_and_accept_any_content() -> None:
    definitions = [one for one in render_pipelines() if one["kind"] == "CustomResourceDefinition"]
    assert {one["spec"]["names"]["kind"] for one in definitions} == {
        *("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow", "WorkflowEventBinding"),
        *("WorkflowTaskSet", "WorkflowTaskResult", "WorkflowArtifactGCTask", "ScheduledWorkflow", "Viewer"),
    }
    for one in definitions:
        names = one["spec"]["names"]
        assert one["metadata"]["name"] == f"{names['plural']}.{one['spec']['group']}"
        assert names["listKind"] == f"{names['kind']}List"
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        [version] = one["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        assert schema == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    # Permissions are for kinds that exist.
    resources = {
        each.partition("/")[0]
        for one in render_pipelines()
        if one["kind"] == "Role"
        for rule in one["rules"]
        if set(rule["apiGroups"]) & {"argoproj.io", "kubeflow.org"}
        for each in rule["resources"]
    }
    assert resources <= {one["spec"]["names"]["plural"] for one in definitions}
    without = render_pipelines({"crds": {"install": False}})
    assert "CustomResourceDefinition" not in {one["kind"] for one in without}


def test_the_notes_have_the_values_of_windlass() -> None:
    text = pipelines_notes()
    block = re.search(r"^  pipelines:\n(?:    .*\n)+", text, re.MULTILINE)
    assert block is not None
    values = yaml.safe_load(block[0])
    assert values["pipelines"]["kfp"]["host"] == f"http://ml-pipeline.{NAMESPACE}.svc:8888"
    assert rendering.render(merged(rendering.REQUIRED, values))
    assert "every address" in text
    peers = {"networkPolicy": {"objectStoreTo": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]}}
    assert "every address" not in pipelines_notes(peers)


def test_pods_are_placed_as_the_values_say() -> None:
    values = {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "images": {"pullSecrets": ["registry"]},
    }
    for name, pod in pod_templates(render_pipelines(values)).items():
        spec = pod["spec"]
        assert spec["nodeSelector"]["pool"] == "system", name
        assert spec["tolerations"] == values["tolerations"], name
        assert spec["priorityClassName"] == "system-cluster-critical", name
        assert spec["imagePullSecrets"] == [{"name": "registry"}], name
    metadata = pod_templates(render_pipelines())["Deployment metadata-grpc-service"]["spec"]
    assert metadata["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
