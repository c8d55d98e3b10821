"""Jobs whose runs are on a Kubeflow Pipelines server: its fake, whose step pods are real."""

from collections.abc import Iterator
from functools import partial

import pytest
from tests.cluster_demo.installation import API_PORT, SYSTEM_NAMESPACE, install_charts
from tests.contracts.kfp_jobs import KfpInstallation, KfpJobContract
from tests.integration.cluster.chain import kfp_server
from tests.integration.cluster.chain.installation import PROJECT, SETTINGS, WORKER, Installation
from tests.integration.cluster.installed import admin_client
from tests.integration.cluster.waiting import eventually
from tests.testcluster.node import POOL
from tests.testcluster.project_images import reference

pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def running(installation: Installation) -> Iterator[KfpInstallation]:
    install = partial(install_charts, installation.cluster, PROJECT)
    with kfp_server.fake_server(installation.cluster) as url:
        values = {"backend": "kfp", "kfp": {"host": kfp_server.HOST, "namespace": kfp_server.NAMESPACE}}
        install({"settings": SETTINGS, "pipelines": values})
        # the former worker may be the leader until its pod has ended
        workers = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods?labelSelector={WORKER.selector.replace('=', '%3D')}"
        eventually(lambda: len(installation.items(workers)) == 1, "the former worker has ended", 60)
        yield KfpInstallation(
            client=installation.client,
            pool=POOL,
            kube=admin_client(installation.cluster),
            server=url,
            namespace=kfp_server.NAMESPACE,
            api_url=f"http://windlass-api.{SYSTEM_NAMESPACE}.svc:{API_PORT}",
            pipelines_image=reference("pipelines"),
            prints_artifacts=True,
        )
        install({"settings": SETTINGS})


class TestJobsOnTheFakeServer(KfpJobContract):
    @pytest.fixture
    def installed(self, running: KfpInstallation) -> KfpInstallation:
        return running
