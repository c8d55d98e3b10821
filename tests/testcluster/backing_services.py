"""PostgreSQL and an S3 server, as pods that tests may kill.

Addresses and credentials are fixed, since nothing outside of the cluster reaches them.
"""

import os

from tests.testcluster import oci
from tests.testcluster.cluster_api import ClusterApi, apply, available, documents_of
from tests.testcluster.components import Component
from tests.testcluster.layout import PACKAGE_DIR, LocalCluster

NAMESPACE = "backing-services"
S3_GROUP = "versitygw"
"""The group of the S3 server in ``versions.toml``."""
DATABASE_URL = f"postgresql+psycopg://windlass:windlass@postgresql.{NAMESPACE}.svc:5432/postgres"
S3_ENDPOINT = f"http://s3.{NAMESPACE}.svc:7070"
S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY = "windlass", "windlass-secret"
BUCKET = "windlass"
DEPLOYMENTS = ("postgresql", "s3")
_MANIFEST = PACKAGE_DIR / "manifests" / "backing-services.yaml"
_POSTGRESQL_USER = 1000
# A folder below `objects` is a bucket.
_FOLDERS = {
    "postgresql": _POSTGRESQL_USER,
    "s3": oci.USER,
    "s3/metadata": oci.USER,
    "s3/objects": oci.USER,
    f"s3/objects/{BUCKET}": oci.USER,
}


def _start(cluster: LocalCluster) -> None:
    for name, user in _FOLDERS.items():
        folder = cluster.run_dir / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, user, user)
    apply(cluster, documents_of(_MANIFEST))


def _ready(cluster: LocalCluster) -> bool:
    with ClusterApi(cluster) as api:
        return all(available(api, NAMESPACE, name) for name in DEPLOYMENTS)


COMPONENT = Component("backing services", _start, _ready, timeout_seconds=120)
