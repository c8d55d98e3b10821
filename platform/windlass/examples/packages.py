"""Downloads a pinned release file with pip, which uses the user's index, proxy and certificates, and verifies it.

No code of a package runs. A wheel is only saved. For a source release pip calls the build backend for metadata, which
would run the release's ``setup.py``. To prevent that, pip verifies the pinned sha256 before it unpacks, the backend is
``inert_build`` (it reads PKG-INFO and imports nothing of the release), and ``--no-build-isolation`` prevents pip from
installing another backend.
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
_MAX_ERROR_LENGTH = 600


def fetch_package(package: Package, cache: Path, progress: Callable[[str], None]) -> Path:
    """Return the verified release file in ``cache``, downloading it if it is not there.

    Raises:
        UnavailableError: pip is not installed, or cannot download the file.
        ChecksumMismatchError: the file does not have the pinned sha256; it is not stored.
    """
    cache.mkdir(parents=True, exist_ok=True)
    cached = cache / package.file
    if cached.is_file() and sha256_file(cached).sha256 == package.sha256:
        return cached
    progress(f"downloading {package.name} {package.version} ({package.megabytes:g} MB)")
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        downloaded = _download(package, Path(folder))
        if sha256_file(downloaded).sha256 != package.sha256:
            raise _mismatch(package)
        downloaded.replace(cached)
    return cached


def _download(package: Package, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        hint = f"install it into this environment: {sys.executable} -m ensurepip, or: uv pip install pip"
        raise UnavailableError("pip is not installed; it is needed to download packages", hint=hint)
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
    downloaded = folder / package.file
    if done.returncode == 0 and downloaded.is_file():
        return downloaded
    if _PIP_MISMATCH in done.stderr:
        raise _mismatch(package)
    raise UnavailableError(
        f"pip cannot download {package.name} {package.version}: {_error_tail(done.stderr)}",
        hint="check the network and pip's configuration (pip config list), then try again",
    )


def _mismatch(package: Package) -> ChecksumMismatchError:
    return ChecksumMismatchError(
        f"{package.file} as served by your package index does not have the pinned sha256; it was discarded",
        hint="a mirror may have changed the file: ask the operator of the index, or use another index",
        context={"package": package.name, "version": package.version, "sha256": package.sha256},
    )


def _error_tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return (errors[-1] if errors else "no output")[:_MAX_ERROR_LENGTH]
