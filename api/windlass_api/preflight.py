"""``python -m windlass_api.preflight``: checks a cluster, the database and the object store; prints JSON.

``windlass doctor --cluster`` runs it in a process of its own, because the CLI imports no server package.
"""

import argparse
import io
import json
import secrets
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from pydantic import ValidationError

from windlass.cluster_settings import ClusterSettings
from windlass.database_settings import DatabaseSettings
from windlass.db.preflight import check_database
from windlass.domain.checks import CheckResult, failed, passed, warning
from windlass.domain.errors import WindlassError
from windlass.kube.client import KubeClient, load_configuration
from windlass.kube.errors import KubeApiError
from windlass.kube.kinds import CONFIG_MAP, DEPLOYMENT, NODE
from windlass.kube.objects import Object, Ref
from windlass.kube.preflight.cluster import (
    ADMISSION_POLICY,
    CUSTOM_RESOURCE,
    STORAGE_CLASS,
    check_clock,
    check_custom_resources,
    check_egress,
    check_gpus,
    check_policies,
    check_storage,
)
from windlass.kube.preflight.kueue_configuration import KUEUE_CONFIG_MAP, check_kueue_configuration
from windlass.kube.preflight.network_probe import NetworkProbe
from windlass.kube.preflight.versions import (
    KUBERAY_DEPLOYMENT,
    KUEUE_DEPLOYMENT,
    check_kubernetes,
    check_operators,
    find_operator,
)
from windlass.orchestration.kfp.preflight import check_pipeline_server
from windlass.pipeline_settings import PipelineServer, PipelineSettings
from windlass.settings import S3Settings
from windlass.storage.s3 import S3ObjectStore
from windlass.storage.s3_client import S3Bucket
from windlass_api.pipeline_ports import kfp_client

_REQUEST_SECONDS = 10.0
_API_DEPLOYMENT = "windlass-api"


def checks(namespace: str, probe_image: str) -> Iterator[CheckResult]:
    """Yield the results of all checks. ``probe_image``: empty: that of the API in ``namespace``."""
    try:
        client = KubeClient(load_configuration(ClusterSettings().kubeconfig), timeout=_REQUEST_SECONDS)
        client.read("/version")
    except KubeApiError as error:
        yield failed("kubernetes", error.message, "choose a cluster with KUBECONFIG or kubectl config use-context")
    else:
        yield from _cluster_checks(client, namespace, probe_image)
    yield from _database_checks()
    yield from _object_store_checks()
    yield from _pipeline_checks()


def _cluster_checks(client: KubeClient, namespace: str, probe_image: str) -> Iterator[CheckResult]:
    deployments: list[Object] = []

    def operators() -> Iterator[CheckResult]:
        deployments.extend(client.list(DEPLOYMENT).items)
        kueue, kuberay = (find_operator(deployments, name) for name in (KUEUE_DEPLOYMENT, KUBERAY_DEPLOYMENT))
        yield from check_operators(kueue, kuberay)

    def kueue_configuration() -> Iterator[CheckResult]:
        kueue = find_operator(deployments, KUEUE_DEPLOYMENT)
        if kueue is not None:
            yield check_kueue_configuration(client.get(Ref(CONFIG_MAP, KUEUE_CONFIG_MAP, kueue.namespace)))

    def policies() -> Iterator[CheckResult]:
        found = [find_operator(deployments, name) for name in (KUEUE_DEPLOYMENT, KUBERAY_DEPLOYMENT)]
        yield check_policies(client.list(ADMISSION_POLICY).items, [one for one in found if one is not None])

    def clock() -> Iterator[CheckResult]:
        before = datetime.now(UTC)
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {"name": ""}}
        created = client.create(review, manager="windlass-preflight")["metadata"]["creationTimestamp"]
        yield check_clock("the API server", datetime.fromisoformat(created), before, datetime.now(UTC))

    def network() -> Iterator[CheckResult]:
        image = probe_image or _api_image(deployments, namespace)
        if not image:
            action = "name the control plane image with --probe-image, or install helm/windlass first"
            yield warning("network policies", f"not checked: no API in namespace {namespace}", action)
            return
        yield from NetworkProbe(client, namespace, image).run()

    yield from _guarded("kubernetes", lambda: iter([check_kubernetes(client.read("/version"))]))
    yield from _guarded("kueue and kuberay", operators)
    yield from _guarded("kueue configuration", kueue_configuration)
    yield from _guarded("custom resources", lambda: iter([check_custom_resources(client.list(CUSTOM_RESOURCE).items)]))
    yield from _guarded("admission policies", policies)
    yield from _guarded("egress of projects", lambda: check_egress(deployments, namespace))
    yield from _guarded("gpus", lambda: iter([check_gpus(client.list(NODE).items)]))
    yield from _guarded("storage class", lambda: iter([check_storage(client.list(STORAGE_CLASS).items)]))
    yield from _guarded("clock", clock)
    yield from _guarded("network policies", network)


def _api_image(deployments: list[Object], namespace: str) -> str:
    for one in deployments:
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, _API_DEPLOYMENT):
            return str(one["spec"]["template"]["spec"]["containers"][0]["image"])
    return ""


def _guarded(check: str, run: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """Yield the results of a check; an error of the API server is a result too."""
    try:
        yield from run()
    except KubeApiError as error:
        yield failed(check, f"not checked: {error.message}", "use an account that may read the cluster")


def _database_checks() -> Iterator[CheckResult]:
    url = DatabaseSettings().of_api
    if url is None:
        action = "`helm test` checks it inside of the cluster; elsewhere set WINDLASS_DATABASE_URL"
        yield warning("database", "not checked: WINDLASS_DATABASE_URL is not set", action)
        return
    for result, times in check_database(url.get_secret_value()):
        yield result
        if times is not None:
            yield check_clock("the database", *times)


def _object_store_checks() -> Iterator[CheckResult]:
    settings = S3Settings()
    if not settings.bucket:
        action = "`helm test` checks it inside of the cluster; elsewhere set WINDLASS_S3_BUCKET and its other settings"
        yield warning("object store", "not checked: WINDLASS_S3_BUCKET is not set", action)
        return
    bucket = S3Bucket.connect(settings)
    store, key = S3ObjectStore(bucket), f"preflight/{secrets.token_hex(8)}"
    try:
        bucket.check()
        store.put(key, io.BytesIO(b"preflight"))
        store.delete(key)
    except WindlassError as error:
        action = error.hint or "check WINDLASS_S3_*, and that network policies permit its port"
        yield failed("object store", error.message, action)
        return
    yield passed("object store", f"bucket {settings.bucket} can be written")


def _pipeline_checks() -> Iterator[CheckResult]:
    try:
        settings = PipelineSettings()
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][0]}: {each['msg']}" for each in error.errors())
        yield failed("pipelines", problems, "check the variables WINDLASS_PIPELINES_*")
        return
    if settings.backend is PipelineServer.KFP:
        try:
            yield check_pipeline_server(kfp_client(settings), has_token=settings.kfp_token_file is not None)
        except WindlassError as error:
            yield failed("pipelines", error.message, error.hint)


def main() -> int:
    """Print the results as JSON, one line each, as soon as they are known."""
    parser = argparse.ArgumentParser(prog="windlass_api.preflight", description=__doc__)
    parser.add_argument("--namespace", default=ClusterSettings.model_fields["system_namespace"].default)
    parser.add_argument("--probe-image", default="")
    args = parser.parse_args()
    for result in checks(args.namespace, args.probe_image):
        print(json.dumps(result.model_dump(mode="json")), flush=True)  # noqa: T201 - the output of a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
