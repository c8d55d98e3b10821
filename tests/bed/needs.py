"""What the machine must have. Asked first, so that a missing package is not found out after a quarter of an hour."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.bed.failures import BedError, UnableError

GO = (1, 26)
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CNI_PLUGINS = Path("/usr/lib/cni")

# Debian package -> what the bed takes from it.
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
    """The path of a system program, also where root's PATH lacks sbin."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SEARCHED}")


def go_version() -> str:
    """What Go calls itself, e.g. ``go1.26.8 linux/amd64``.

    Raises:
        UnableError: there is no Go, or an older one.
    """
    wanted = ".".join(map(str, GO))
    if not shutil.which("go"):
        raise UnableError(f"The bed builds its programs with Go {wanted} or newer, and there is no go on PATH.")
    said = subprocess.run(
        ["go", "env", "GOVERSION", "GOOS", "GOARCH"], capture_output=True, text=True, check=True, cwd="/"
    ).stdout.split()
    found = re.match(r"go(\d+)\.(\d+)", said[0])
    if not found or (int(found[1]), int(found[2])) < GO:
        raise UnableError(f"The bed builds its programs with Go {wanted} or newer; {shutil.which('go')} is {said[0]}.")
    return f"{said[0]} {said[1]}/{said[2]}"


def missing(packages: Mapping[str, str]) -> list[str]:
    return sorted(package for package, part in packages.items() if not program(part))


def check_root() -> None:
    """Refuse another system than Linux, and another user than root.

    Raises:
        UnableError: it is one of these.
    """
    if platform.system() != "Linux":
        raise UnableError(f"The bed needs Linux; this is {platform.system()}.")
    if os.geteuid() != 0:
        raise UnableError("The bed needs root: it makes namespaces, mounts and a cgroup, and runs a kubelet.")


def check(packages: Mapping[str, str], *, install: bool) -> None:
    """Refuse a machine that cannot run the bed; with ``install``, give it the Debian packages first.

    Raises:
        UnableError: with what is missing and how to get it.
        BedError: the packages could not be installed.
    """
    check_root()
    go_version()
    lacking = missing(packages)
    if lacking and install:
        _install(lacking)
        lacking = missing(packages)
    if lacking:
        names = " ".join(lacking)
        raise UnableError(
            f"The bed needs these Debian packages: {names}\n"
            f"Install them: apt-get install --no-install-recommends {names}\n"
            "or let the bed do it: python -m tests.bed up --install"
        )


def _install(packages: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise UnableError(f"There is no apt-get here to install {' '.join(packages)} with.")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        ended = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise BedError(f"apt-get {' '.join(command)} failed:\n{ended.stderr[-2000:]}")
