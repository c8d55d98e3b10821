"""Checks the machine before anything is built."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.testcluster.errors import LocalClusterError, UnsupportedHostError

GO = (1, 26)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CNI_PLUGINS = Path("/usr/lib/cni")

# Debian package -> the program or file that is used from it.
CLUSTER_PACKAGES = {
    "containernetworking-plugins": str(CNI_PLUGINS / "bridge"),
    "iproute2": "ip",
    "nftables": "nft",
    "openssl": "openssl",
    "runc": "runc",
    "util-linux": "nsenter",
}
IMAGE_PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}


def program(name: str) -> str | None:
    """The path of a system program, also if PATH lacks sbin."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def go_version() -> str:
    """Go's version and platform, e.g. ``go1.26.8 linux/amd64``.

    Raises:
        UnsupportedHostError: there is no Go, or an older one.
    """
    required = ".".join(map(str, GO))
    if not shutil.which("go"):
        raise UnsupportedHostError(f"The test cluster needs Go {required} or newer, and there is no go on PATH.")
    output = subprocess.run(
        ["go", "env", "GOVERSION", "GOOS", "GOARCH"], capture_output=True, text=True, check=True, cwd="/"
    ).stdout.split()
    version = re.match(r"go(\d+)\.(\d+)", output[0])
    if not version or (int(version[1]), int(version[2])) < GO:
        raise UnsupportedHostError(
            f"The test cluster needs Go {required} or newer; {shutil.which('go')} is {output[0]}."
        )
    return f"{output[0]} {output[1]}/{output[2]}"


def missing(packages: Mapping[str, str]) -> list[str]:
    return sorted(package for package, file in packages.items() if not program(file))


def check_root() -> None:
    """Check for Linux and root.

    Raises:
        UnsupportedHostError: another system, or another user.
    """
    if platform.system() != "Linux":
        raise UnsupportedHostError(f"The test cluster needs Linux; this is {platform.system()}.")
    if os.geteuid() != 0:
        raise UnsupportedHostError(
            "The test cluster needs root: it creates namespaces, mounts and a cgroup, and runs a kubelet."
        )


def check(packages: Mapping[str, str], *, install: bool) -> None:
    """Check the machine; with ``install``, install missing Debian packages first.

    Raises:
        UnsupportedHostError: something is missing; the message says how to install it.
        LocalClusterError: the packages could not be installed.
    """
    check_root()
    go_version()
    missing_packages = missing(packages)
    if missing_packages and install:
        _install(missing_packages)
        missing_packages = missing(packages)
    if missing_packages:
        names = " ".join(missing_packages)
        raise UnsupportedHostError(
            f"The test cluster needs these Debian packages: {names}\n"
            f"Install them: apt-get install --no-install-recommends {names}\n"
            "or: python -m tests.testcluster up --install"
        )


def _install(packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise UnsupportedHostError(f"There is no apt-get here to install {' '.join(packages)} with.")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        ended = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise LocalClusterError(f"apt-get {' '.join(command)} failed:\n{ended.stderr[-2000:]}")
