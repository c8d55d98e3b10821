"""Writes an OCI archive with one static program, which containerd imports without a registry."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

USER = 65532
"""The user id that the operators' charts require."""
_FILES = {
    "etc/passwd": f"root:x:0:0::/:/sbin/nologin\nnonroot:x:{USER}:{USER}::/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def write(archive: Path, name: str, program: Path) -> None:
    """Write the image ``name`` with ``program`` as /manager, the path that the operators' manifests use."""
    layer = archive.with_suffix(".layer")
    try:
        _write_layer(layer, program)
        _write_archive(archive, name, layer)
    finally:
        layer.unlink(missing_ok=True)


def _entry(name: str, size: int, mode: int = 0o644) -> tarfile.TarInfo:
    """A reproducible entry: no owner, no time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    return info


def _folder(name: str, mode: int) -> tarfile.TarInfo:
    info = _entry(name, 0, mode)
    info.type = tarfile.DIRTYPE
    return info


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_entry(name, len(content)), io.BytesIO(content))


def _write_layer(layer: Path, program: Path) -> None:
    with tarfile.open(layer, "w") as tar:
        tar.addfile(_folder("etc", 0o755))
        tar.addfile(_folder("tmp", 0o1777))
        for name, text in _FILES.items():
            _add(tar, name, text.encode())
        with program.open("rb") as stream:
            tar.addfile(_entry("manager", program.stat().st_size, 0o755), stream)


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _document(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _write_archive(archive: Path, name: str, layer: Path) -> None:
    with layer.open("rb") as stream:
        layer_digest = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    runtime = {"Entrypoint": ["/manager"], "User": f"{USER}:{USER}", "WorkingDir": "/"}
    config = _document(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": runtime,
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        }
    )
    layers = [{"mediaType": _LAYER, "digest": layer_digest, "size": layer.stat().st_size}]
    manifest = _document(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _descriptor(_CONFIG, config), "layers": layers}
    )
    named = _descriptor(_MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": name}}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", _document({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", _document({"schemaVersion": 2, "manifests": [named]}))
        for content in (config, manifest):
            _add(tar, f"blobs/sha256/{_digest(content)[7:]}", content)
        with layer.open("rb") as stream:
            tar.addfile(_entry(f"blobs/sha256/{layer_digest[7:]}", layer.stat().st_size), stream)
