"""Builds the web console into ``api/windlass_api/static``: ``make console``.

The built files are kept below ``.cache/console`` by the hash of what they are built from, so that a second build of the
same source copies them. Needs Node 20.19 or newer, with npm.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from windlass.kit.files import locked
from windlass_api.app import public_openapi
from windlass_api.console import FOLDER

_SOURCE = Path(__file__).parent
_CACHE = _SOURCE.parent.parent / ".cache" / "console"
_MODULES = _SOURCE / "node_modules"
_GENERATED = ("build", "node_modules")
_KEY_FILE = ".source-hash"
_KEPT = 3
"""Newest builds that are kept."""


def main() -> int:
    """Build the console, unless it is built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="also run the type checker and the linter")
    parser.add_argument("--modules", action="store_true", help="also install the modules that only tests use")
    chosen = parser.parse_args()
    document = json.dumps(public_openapi(), sort_keys=True)
    key = source_hash(document)
    if _built_from(FOLDER) == key and not (chosen.check or chosen.modules):
        return 0
    if shutil.which("npm") is None:
        sys.stderr.write("error: no npm on PATH\nhint:  install Node 20.19 or newer: https://nodejs.org\n")
        return 2
    _CACHE.mkdir(parents=True, exist_ok=True)
    with locked(_CACHE / ".lock"):  # the workers of a test run build at the same time
        _update(document, key, check=chosen.check, modules=chosen.modules)
    return 0


def _update(document: str, key: str, *, check: bool, modules: bool) -> None:
    cached = _CACHE / key
    if not cached.is_dir() or check or modules:
        _install_modules()
    if not cached.is_dir() or check:
        _generate_client(document)
    if check:
        _npm("run", "check")
    if not cached.is_dir():
        _build(cached, key)
    if _built_from(FOLDER) != key:
        _replace(FOLDER, cached)
        sys.stdout.write(f"built the console into {FOLDER}\n")


def source_hash(document: str) -> str:
    """Return the hash of everything that the console is built from.

    Args:
        document: the OpenAPI document, from which its client is generated.
    """
    digest = hashlib.sha256(document.encode())
    for path in sorted(_SOURCE.rglob("*")):
        relative = path.relative_to(_SOURCE)
        if path.is_file() and relative.parts[0] not in _GENERATED and "__pycache__" not in relative.parts:
            digest.update(f"\0{relative.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _built_from(folder: Path) -> str:
    file = folder / _KEY_FILE
    return file.read_text("utf-8") if file.is_file() else ""


def _npm(*arguments: str) -> None:
    subprocess.run(["npm", *arguments], cwd=_SOURCE, check=True)


def _install_modules() -> None:
    """Install the locked modules, unless they are installed."""
    lock, stamp = (_SOURCE / "package-lock.json").read_bytes(), _MODULES / ".installed"
    if not stamp.is_file() or stamp.read_bytes() != lock:
        _npm("ci")
        stamp.write_bytes(lock)


def _generate_client(document: str) -> None:
    folder = _SOURCE / "build"
    folder.mkdir(exist_ok=True)
    (folder / "openapi.json").write_text(document, "utf-8")
    _npm("run", "--silent", "generate")


def _build(cached: Path, key: str) -> None:
    """Build into the cache, and delete old builds."""
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix=".draft-") as draft:
        _npm("run", "build", "--", "--emptyOutDir", "--outDir", draft)
        (Path(draft) / _KEY_FILE).write_text(key, "utf-8")
        for path in (Path(draft), *Path(draft).rglob("*")):  # in the image another user reads them
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.copytree(draft, cached)
    builds = sorted(
        (path for path in cached.parent.iterdir() if not path.name.startswith(".")),
        key=lambda path: path.stat().st_mtime,
    )
    for old in builds[:-_KEPT]:
        shutil.rmtree(old)


def _replace(folder: Path, built: Path) -> None:
    """Replace a folder with a copy of another one, which is complete when it becomes visible."""
    draft = folder.with_name(f".{folder.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(built, draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


if __name__ == "__main__":
    sys.exit(main())
