"""Writes kubeconfigs and the files of ``config/``, which the components read at their start."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.testcluster.certificates import USERS
from tests.testcluster.layout import API_SERVER_URL, PACKAGE_DIR, LocalCluster


def write(cluster: LocalCluster) -> None:
    """Write every configuration file; values that differ between clusters are ``@NAME@`` in the files."""
    values = {"@CGROUP@": cluster.cgroup}
    for source in sorted((PACKAGE_DIR / "config").iterdir()):
        text = source.read_text("utf-8")
        for name, value in values.items():
            text = text.replace(name, value)
        # The container runtime reads every file of this folder as a network configuration.
        folder = cluster.state / "etc" / ("networks" if source.suffix == ".conflist" else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / source.name).write_text(text, "utf-8")
    (cluster.state / "etc" / "resolv.conf").write_text("", "utf-8")
    for user in USERS:
        write_kubeconfig(cluster, user.name, API_SERVER_URL, cluster.state / "etc" / f"{user.name}.kubeconfig")


def write_kubeconfig(cluster: LocalCluster, user: str, server: str, path: Path) -> None:
    """Write a self-contained kubeconfig, as JSON."""

    def encoded(name: str) -> str:
        return base64.b64encode((cluster.pki / name).read_bytes()).decode()

    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "testcluster", "cluster": {"server": server, "certificate-authority-data": encoded("ca.crt")}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(f"{user}.crt"),
                    "client-key-data": encoded(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "testcluster", "context": {"cluster": "testcluster", "user": user}}],
        "current-context": "testcluster",
    }
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=1), "utf-8")
    draft.rename(path)
