"""A build backend that builds nothing, so that ``pip download`` of a source release runs no code of that release.

pip calls the build backend for a release's metadata before it saves the file, which would run its ``setup.py``.
A release without ``pyproject.toml`` gets the backend ``setuptools.build_meta:__legacy__``; with this folder first on
``PYTHONPATH`` and ``--no-build-isolation`` that name resolves to the object below. It reads ``PKG-INFO``.
"""

from pathlib import Path


class _Inert:
    def prepare_metadata_for_build_wheel(self, metadata_directory: str, config_settings: object = None) -> str:
        """Copy the release's own PKG-INFO (pip runs this in the unpacked release) and return the folder's name."""
        del config_settings
        name = "release.dist-info"
        folder = Path(metadata_directory) / name
        folder.mkdir()
        (folder / "METADATA").write_bytes(Path("PKG-INFO").read_bytes())
        return name


__legacy__ = _Inert()
