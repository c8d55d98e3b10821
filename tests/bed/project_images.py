"""The project's own images, from the Dockerfiles that everybody else builds too, without a registry.

The ordinary way begins with an image of Debian; here it is made from Debian's packages. Each image is kept as an
archive by the hash of its Dockerfile, of what that copies and of the image below; buildah keeps nothing.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bed.builds import locked
from tests.bed.failures import BedError
from tests.bed.layout import REPOSITORY
from tests.bed.parts import Say

FOLDER = REPOSITORY / "helm" / "images"
NAMES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/Dockerfile") if path.parent.name != "base"))
RECIPE = "1"
"""Part of every hash: raise it when this module builds otherwise."""
_AUTHORITIES = Path("/etc/ssl/certs")
_PASSED_ON = ("TORCH_INDEX",)


def reference(name: str) -> str:
    """The name of an image on the bed."""
    return f"bed.local/windlass/{name}:dev"


@dataclass(frozen=True)
class _Image:
    """One archive to be made."""

    name: str
    digest: str
    base: Path
    arguments: tuple[str, ...] = ()

    @property
    def dockerfile(self) -> Path:
        return FOLDER / self.name / "Dockerfile"


def build_all(names: Sequence[str], cache: Path, say: Say) -> list[Path]:
    """Build the named images, where the cache lacks them, and return their archives."""
    folder = cache / "images"
    if not names:
        return []
    with locked(cache / "locks" / "images"):
        packages = _packages()
        debian = _hash(packages, _release())
        rootfs = folder / f"debian-{debian}.tar"
        base = _image("base", debian, rootfs)
        if not (archive := _archive(folder, base)).exists():
            if not rootfs.exists():
                _timed("debian packages", say, partial(_make_debian, rootfs, packages))
            _timed("image base", say, partial(_build, base, archive))
        wanted = [_image(name, base.digest, archive) for name in names]
        for each in wanted:
            if not (final := _archive(folder, each)).exists():
                _timed(f"image {each.name}", say, partial(_build, each, final))
        return [_archive(folder, each) for each in wanted]


def _timed(text: str, say: Say, work: Callable[[], None]) -> None:
    began = time.monotonic()
    work()
    say(text, time.monotonic() - began)


def _archive(folder: Path, image: _Image) -> Path:
    return folder / f"{image.name}-{image.digest}.tar"


def _image(name: str, below: str, base: Path) -> _Image:
    text = (FOLDER / name / "Dockerfile").read_text("utf-8")
    arguments = tuple(f"{each}={os.environ[each]}" for each in _PASSED_ON if os.environ.get(each))
    parts = [below, text, *arguments]
    for path in _copied(text):
        parts += [str(path.relative_to(REPOSITORY)), hashlib.sha256(path.read_bytes()).hexdigest()]
    return _Image(name, _hash(*parts), base, arguments)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join([RECIPE, *parts]).encode()).hexdigest()[:16]


def _copied(dockerfile: str) -> Iterator[Path]:
    """The files of the repository that a Dockerfile copies."""
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            top = REPOSITORY / source
            found = sorted(top.rglob("*")) if top.is_dir() else [top]
            yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _packages() -> str:
    """The packages that the base image asks for."""
    found = re.search(r'^ARG PACKAGES="(.+)"$', (FOLDER / "base" / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise BedError("the base image names no packages")
    return found[1]


def _release() -> str:
    """The release of Debian that runs here, and is made into the base."""
    found = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise BedError("/etc/os-release names no VERSION_CODENAME of a Debian release")
    return found[1]


def _run(*command: str) -> None:
    ended = subprocess.run(["nice", "-n", "10", *command], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BedError(f"{command[0]} failed:\n{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}")


def _sources() -> list[str]:
    """Where this machine's apt gets Debian itself from."""
    lists = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
    return [str(path) for path in lists if path.exists()]


def _make_debian(rootfs: Path, packages: str) -> None:
    rootfs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=rootfs.parent) as folder:
        draft = Path(folder) / "rootfs.tar"
        wanted = f"--include={','.join(packages.split())}"
        _run("mmdebstrap", "--quiet", "--variant=minbase", wanted, _release(), str(draft), *_sources())
        draft.rename(rootfs)


def _build(image: _Image, archive: Path) -> None:
    """Build one image in a storage of its own and write it as an archive.

    Mounts stay in a namespace; the network is the host's, by which packages are fetched. The machine's authorities are
    mounted, since the network may have one of its own.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        work = Path(name)
        policy = work / "policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}), "utf-8")
        storage = ["--root", str(work / "storage"), "--runroot", str(work / "run"), "--storage-driver", "overlay"]
        buildah = ["unshare", "--mount", "--propagation", "private", "--", "buildah", *storage]
        trust = ["--signature-policy", str(policy)]
        base = f"docker-archive:{image.base}"
        if image.name == "base":
            shutil.copy(image.base, work / "rootfs.tar")
            (work / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n", "utf-8")
            _run(*buildah, "build", *trust, "--tag", "debian", str(work))
            base = "localhost/debian"
            (work / "rootfs.tar").unlink()
        options = [f"--build-arg=BASE_IMAGE={base}", *(f"--build-arg={each}" for each in image.arguments)]
        where = ["--isolation", "chroot", "--format", "oci", f"--volume={_AUTHORITIES}:{_AUTHORITIES}:ro"]
        target = ["--tag", "built", "--file", str(image.dockerfile), str(REPOSITORY)]
        _run(*buildah, "build", *trust, *where, *options, *target)
        draft = work / "image.tar"
        # Unlike an archive of OCI's form, this one takes layers that are not compressed.
        destination = f"docker-archive:{draft}:{reference(image.name)}"
        _run(*buildah, "push", *trust, "--quiet", "localhost/built", destination)
        draft.rename(archive)
