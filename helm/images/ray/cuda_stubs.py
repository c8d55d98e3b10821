# noqa: INP001 - a program of the Dockerfile, in no package
"""Writes stubs of the CUDA libraries that PyTorch links: ``cuda_stubs.py TORCH_LIB``. For images without GPUs.

PyTorch's wheel on PyPI does not import without NVIDIA's libraries, also on a machine without a GPU. A stub has the name
of a library and the symbols that PyTorch links. Its functions return the error "no device", so that PyTorch, which is
not changed, runs on the CPU. Needs binutils; only for x86-64, where PyPI's wheel has CUDA.
"""

import ctypes
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

UNVERSIONED = {"cuFile": "libcufile.so.0", "cusparseLt": "libcusparseLt.so.0", "nccl": "libnccl.so.2"}
"""Symbol prefixes of the libraries that do not version their symbols."""
DRIVER = "libcuda.so.1"
"""PyTorch loads it only when there is a GPU."""
NO_DEVICE = 100
"""``cudaErrorNoDevice``; not zero, so an error of the other libraries too."""
TEXTS = ("cudaGetErrorName", "cudaGetErrorString", "cuptiGetResultString", "cudnnGetErrorString", "ncclGetErrorString")
"""Functions that return a text."""

_HEADER = """
.section .rodata
message: .string "this image was built without CUDA"
.section .note.GNU-stack,"",@progbits
.text
"""
_NO_DEVICE = """
.globl {name}
.type {name}, @function
{name}: movl ${code}, %eax
ret
"""
_TEXT = """
.globl {name}
.type {name}, @function
{name}: leaq message(%rip), %rax
ret
"""


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def linked(library: Path) -> set[str]:
    """The names of the libraries that one links."""
    lines = _output("readelf", "--dynamic", "--wide", str(library)).splitlines()
    return {line.partition("[")[2].rstrip("]") for line in lines if "(NEEDED)" in line}


def version_owners(library: Path) -> dict[str, str]:
    """The libraries that define the symbol versions that one links, e.g. ``NVSHMEM`` of ``libnvshmem_host.so.3``."""
    owners, owner = {}, ""
    for line in _output("readelf", "--version-info", "--wide", str(library)).splitlines():
        if match := re.search(r" Version: \d+  File: (\S+)", line):
            owner = match[1]
        elif match := re.search(r" Name: (\S+)  Flags: ", line):
            owners[match[1]] = owner
    return owners


def undefined(library: Path) -> set[str]:
    """The symbols that a library links, with their versions."""
    lines = _output("nm", "--dynamic", "--undefined-only", "--format=posix", str(library)).splitlines()
    return {line.split()[0] for line in lines}


def is_missing(name: str, folder: Path) -> bool:
    """Whether neither the folder nor the system has a library."""
    if (folder / name).exists():
        return False
    try:
        ctypes.CDLL(name)
    except OSError:
        return True
    return False


def stub_symbols(libraries: Iterable[Path], missing: set[str]) -> dict[str, dict[str, set[str]]]:
    """The symbols that each stub must define, by their version; an empty one for symbols without a version."""
    stubs: dict[str, dict[str, set[str]]] = {name: {} for name in missing}
    for library in libraries:
        owners = version_owners(library)
        for version, owner in owners.items():
            if owner in missing:
                stubs[owner].setdefault(version, set())
        for symbol in undefined(library):
            name, _, version = symbol.partition("@")
            owner = owners.get(version) or next(
                (UNVERSIONED[each] for each in UNVERSIONED if name.startswith(each)), ""
            )
            if owner in missing:
                stubs[owner].setdefault(version, set()).add(name)
    return stubs


def write_stub(folder: Path, soname: str, versions: Mapping[str, Iterable[str]]) -> None:
    """Assemble and link one stub."""
    source, script = [_HEADER], []
    for version, names in sorted(versions.items()):
        source += ((_TEXT if name in TEXTS else _NO_DEVICE).format(name=name, code=NO_DEVICE) for name in sorted(names))
        if version:
            script.append(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};\n")
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "stub.s").write_text("".join(source), "utf-8")
        (Path(work) / "versions").write_text("".join(script), "utf-8")
        _output("as", "-o", f"{work}/stub.o", f"{work}/stub.s")
        options = [f"--version-script={work}/versions"] if script else []
        _output("ld", "-shared", "-soname", soname, *options, "-o", str(folder / soname), f"{work}/stub.o")


def main() -> None:
    """Write the stubs into the folder that the command line names."""
    folder = Path(sys.argv[1])
    libraries = sorted(path for path in folder.glob("lib*.so") if path.is_file())
    missing = {name for library in libraries for name in linked(library) - {DRIVER} if is_missing(name, folder)}
    for soname, versions in sorted(stub_symbols(libraries, missing).items()):
        write_stub(folder, soname, versions)
        print(f"{soname}: {sum(map(len, versions.values()))} symbols")  # noqa: T201 - the program's output


if __name__ == "__main__":
    main()
