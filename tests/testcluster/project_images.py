"""Builds the project's images with ``helm/images/build``, without a registry, and the image of PostgreSQL.

The Debian base image is built from Debian packages. Buildah's storage is kept, so a build repeats only the layers that
changed. Each image is also kept as an archive, by the hash of everything that it is built from.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.testcluster.builds import locked
from tests.testcluster.components import ReportProgress
from tests.testcluster.errors import LocalClusterError
from tests.testcluster.layout import REPOSITORY

FOLDER = REPOSITORY / "helm" / "images"
NAMES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/Dockerfile") if path.parent.name != "base"))
POSTGRESQL = "postgresql"
"""The base image with PostgreSQL."""
KEPT_ARCHIVES = 2
"""Newest archives of an image that are kept: clusters and checkouts share them."""
RECIPE = "2"
"""Part of every hash: increase it when the build changes."""
_BUILD = FOLDER / "build"
_BASE = FOLDER / "base" / "Dockerfile"
_REGISTRY, TAG = "bed.local", "dev"
_CUDA = "no"
_AUTHORITIES = Path("/etc/ssl/certs")
# As in Docker's Debian images: packages do not start their services.
_DEBIAN = r"""
FROM scratch
ADD rootfs.tar /
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 0755 /usr/sbin/policy-rc.d
"""


def reference(name: str, tag: str = TAG) -> str:
    """The name of an image in the cluster."""
    return f"{_REGISTRY}/windlass/{name}:{tag}"


def build_all(names: Sequence[str], cache: Path, report_progress: ReportProgress) -> list[Path]:
    """Build the images that the cache lacks, and return the archives of all."""
    folder = cache / "images"
    if not names:
        return []
    with locked(cache / "locks" / "images"):
        archives = {name: folder / f"{name}-{digest(name)}.tar" for name in names}
        missing = [name for name in names if not archives[name].exists()]
        for name in missing:
            packages = _packages(name)
            rootfs = folder / f"debian-{_hash(packages, _release())}.tar"
            if not rootfs.exists():
                _timed("debian packages", report_progress, partial(_make_debian, rootfs, packages))
            _timed(f"image {name}", report_progress, partial(_build, name, rootfs, archives[name]))
            _delete_old(folder, name)
        return list(archives.values())


def _timed(text: str, report_progress: ReportProgress, work: Callable[[], None]) -> None:
    began = time.monotonic()
    work()
    report_progress(text, time.monotonic() - began)


def digest(name: str) -> str:
    """The hash of all inputs of an image."""
    components = [_packages(name), _release(), _BUILD.read_text("utf-8"), _BASE.read_text("utf-8")]
    if name != POSTGRESQL:
        text = (FOLDER / name / "Dockerfile").read_text("utf-8")
        components += [text, _CUDA]
        for path in _copied(text):
            components += [str(path.relative_to(REPOSITORY)), hashlib.sha256(path.read_bytes()).hexdigest()]
    return _hash(*components)


def _hash(*components: str) -> str:
    return hashlib.sha256("\0".join([RECIPE, *components]).encode()).hexdigest()[:16]


def _copied(dockerfile: str) -> Iterator[Path]:
    """The repository files that a Dockerfile copies."""
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            top = REPOSITORY / source
            files = sorted(top.rglob("*")) if top.is_dir() else [top]
            yield from (path for path in files if path.is_file() and "__pycache__" not in path.parts)


def _packages(name: str) -> str:
    """The Debian packages of an image."""
    match = re.search(r'^ARG PACKAGES="(.+)"$', _BASE.read_text("utf-8"), re.MULTILINE)
    if not match:
        raise LocalClusterError("the base image lists no packages")
    return f"{match[1]} postgresql" if name == POSTGRESQL else match[1]


def _release() -> str:
    """This machine's Debian release, which becomes the base image."""
    match = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    if not match:
        raise LocalClusterError("/etc/os-release has no VERSION_CODENAME of a Debian release")
    return match[1]


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    ended = subprocess.run(["nice", "-n", "10", *command], env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LocalClusterError(f"{command[0]} failed:\n{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}")


def _sources() -> list[str]:
    """This machine's apt sources of Debian."""
    lists = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
    return [str(path) for path in lists if path.exists()]


def _make_debian(rootfs: Path, packages: str) -> None:
    rootfs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=rootfs.parent) as folder:
        draft = Path(folder) / "rootfs.tar"
        wanted = f"--include={','.join(packages.split())}"
        _run("mmdebstrap", "--quiet", "--variant=minbase", wanted, _release(), str(draft), *_sources())
        draft.rename(rootfs)


def _delete_old(folder: Path, name: str) -> None:
    archives = sorted(folder.glob(f"{name}-????????????????.tar"), key=lambda path: path.stat().st_mtime)
    for archive in archives[:-KEPT_ARCHIVES]:
        archive.unlink()


@dataclass(frozen=True)
class _Builder:
    """Buildah with the storage of the cache; its other files are in the folder ``work``.

    Mounts stay in a separate namespace. A build uses the host's network to fetch packages, and mounts the host's CA
    certificates, since the network may require a CA of its own, and uv's cache.
    """

    storage: Path
    work: Path

    @property
    def command(self) -> list[str]:
        return ["buildah", "--root", str(self.storage), "--runroot", str(self.work / "run"), "--storage-driver=overlay"]

    @property
    def trust(self) -> str:
        return f"--signature-policy={self.work / 'policy.json'}"

    @property
    def options(self) -> list[str]:
        """Options of a build."""
        volumes = [f"--volume={_AUTHORITIES}:{_AUTHORITIES}:ro", f"--volume={_uv_cache()}:/root/.cache/uv"]
        return [self.trust, "--isolation=chroot", "--format=oci", "--build-arg=UV_NO_CACHE=0", *volumes]

    def run(self, *command: str, **environment: str) -> None:
        isolated = ["unshare", "--mount", "--propagation", "private", "--", *command]
        _run(*isolated, environment=os.environ | environment)


@contextmanager
def _builder(parent: Path) -> Iterator[_Builder]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        policy = {"default": [{"type": "insecureAcceptAnything"}]}
        (Path(name) / "policy.json").write_text(json.dumps(policy), "utf-8")
        yield _Builder(parent / "storage", Path(name))


def _uv_cache() -> Path:
    """The folder in which uv keeps packages: the environment of this checkout was installed from it."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    folder = Path(os.environ.get("UV_CACHE_DIR") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _build(name: str, rootfs: Path, archive: Path) -> None:
    """Build one image and write it as an archive."""
    with _builder(archive.parent) as builder:
        base = f"localhost/{rootfs.stem}"
        shutil.copy(rootfs, builder.work / "rootfs.tar")
        (builder.work / "Dockerfile").write_text(_DEBIAN, "utf-8")
        builder.run(*builder.command, "build", *builder.options, "--layers", "--tag", base, str(builder.work))
        if name == POSTGRESQL:
            # Its root file system has the packages already.
            options = ["--layers", f"--build-arg=BASE_IMAGE={base}", "--file", str(_BASE)]
            builder.run(
                *builder.command, "build", *builder.options, *options, "--tag", reference(name), str(REPOSITORY)
            )
            built = reference(name)
        else:
            builder.run(
                str(_BUILD),
                name,
                BUILDER=" ".join(builder.command),
                BUILD_OPTIONS=" ".join(builder.options),
                REGISTRY=_REGISTRY,
                TAG=TAG,
                CUDA=_CUDA,
                CONSOLE="no",
                BASE_IMAGE=base,
            )
            built = f"{reference(name)}-cpu" if name == "ray" else reference(name)
        draft = builder.work / "image.tar"
        # Unlike an OCI archive, a Docker archive keeps the layers uncompressed.
        destination = f"docker-archive:{draft}:{reference(name)}"
        builder.run(*builder.command, "push", builder.trust, "--quiet", built, destination)
        draft.rename(archive)
