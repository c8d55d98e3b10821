"""Writes what the parts read at their start: kubeconfigs and the files of ``config/``."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.bed.certificates import USERS
from tests.bed.layout import API_INSIDE, HERE, Bed


def write(bed: Bed) -> None:
    """Write every configuration; the few values that differ between beds stand as ``@NAME@`` in the files."""
    values = {"@CGROUP@": bed.cgroup}
    for source in sorted((HERE / "config").iterdir()):
        text = source.read_text("utf-8")
        for name, value in values.items():
            text = text.replace(name, value)
        # A container runtime takes every file of its folder for networks for one.
        folder = bed.state / "etc" / ("networks" if source.suffix == ".conflist" else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / source.name).write_text(text, "utf-8")
    (bed.state / "etc" / "resolv.conf").write_text("", "utf-8")
    for user in USERS:
        write_kubeconfig(bed, user.name, API_INSIDE, bed.state / "etc" / f"{user.name}.kubeconfig")


def write_kubeconfig(bed: Bed, user: str, server: str, path: Path) -> None:
    """Write a kubeconfig with everything in it, so that the file can be copied and passed on. JSON is YAML."""

    def encoded(name: str) -> str:
        return base64.b64encode((bed.pki / name).read_bytes()).decode()

    content: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bed", "cluster": {"server": server, "certificate-authority-data": encoded("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(f"{user}.crt"),
                    "client-key-data": encoded(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": user}}],
        "current-context": "bed",
    }
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=1), "utf-8")
    draft.rename(path)
