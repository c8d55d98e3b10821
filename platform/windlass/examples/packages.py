"""Downloads a pinned release file with pip, so with the user's own index, proxy and certificates, and verifies it.

No code of a package runs. A wheel is only saved. For a source release pip asks the build backend for metadata, which
would run the release's ``setup.py``; three things stand against that: pip compares the pinned sha256 before it unpacks
anything, the backend it finds is ``inert_build`` (it answers from PKG-INFO and imports nothing of the release), and
``--no-build-isolation`` keeps pip from installing another one.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from windlass.domain.artifacts import sha256_file
from windlass.domain.errors import ChecksumMismatchError, UnavailableError
from windlass.examples.catalogue import Package

_INERT_BUILD = Path(__file__).with_name("inert_build")
_PIP_MISMATCH = "DO NOT MATCH THE HASHES"
_WORDS = 600


def fetch_package(package: Package, cache: Path, progress: Callable[[str], None]) -> Path:
    """Return the verified release file in ``cache``, downloading it if it is not there.

    Raises:
        UnavailableError: pip is not installed, or cannot download the file.
        ChecksumMismatchError: what the index serves is not what is pinned; nothing of it is kept.
    """
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / package.file
    if kept.is_file() and sha256_file(kept).sha256 == package.sha256:
        return kept
    progress(f"downloading {package.name} {package.version} ({package.megabytes:g} MB)")
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        arrived = _download(package, Path(folder))
        if sha256_file(arrived).sha256 != package.sha256:
            raise _mismatch(package)
        arrived.replace(kept)
    return kept


def _download(package: Package, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        hint = f"install it into this environment: {sys.executable} -m ensurepip, or: uv pip install pip"
        raise UnavailableError("pip is not installed, and packages are downloaded with it", hint=hint)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input", "--quiet"]
    kind = ["--no-binary", ":all:", "--no-build-isolation"] if package.source else ["--only-binary", ":all:"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if package.source:
        environment["PYTHONPATH"] = str(_INERT_BUILD)
    done = subprocess.run(
        [*pip, *kind, "--dest", str(folder), "--requirement", str(wanted)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        cwd=folder,
        check=False,
    )
    arrived = folder / package.file
    if done.returncode == 0 and arrived.is_file():
        return arrived
    if _PIP_MISMATCH in done.stderr:
        raise _mismatch(package)
    raise UnavailableError(
        f"pip cannot download {package.name} {package.version}: {_last_words(done.stderr)}",
        hint="check the network and pip's own configuration (pip config list), then try again",
    )


def _mismatch(package: Package) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"{package.file} as served by your package index does not have the pinned sha256; it was not kept",
        hint="a mirror may have changed the file: ask who runs the index, or use another one",
        facts={"package": package.name, "version": package.version, "sha256": package.sha256},
    )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return (errors[-1] if errors else "it said nothing")[:_WORDS]
