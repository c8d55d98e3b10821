"""Start of the CLI: imported modules, required packages, help texts, completions."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.unit.cli.conftest import Windlass
from typer.core import TyperGroup

from windlass.cli import local_server
from windlass.cli.main import _load, app

EXTRAS = (
    *("fastapi", "sqlmodel", "sqlalchemy", "alembic", "uvicorn", "starlette", "psutil", "orjson"),
    *("prometheus_client", "pydantic_settings", "pyarrow", "datasketch", "tokenizers", "kfp", "ray", "torch"),
    *("transformers", "peft", "safetensors", "sklearn", "gguf", "jinja2", "pip"),
)

BLOCKED = f"""
import sys
class Extras:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"no module named {{name}}", name=name)
sys.meta_path.insert(0, Extras())
"""


def _fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_help_imports_neither_the_http_stack_nor_pydantic() -> None:
    done = _fresh(
        "import sys; from windlass.cli.main import run; run(['--help']); "
        "heavy = ('httpx2', 'pydantic', 'asyncio', 'yaml', 'windlass.sdk'); "
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.strip() == "[]"
    assert "dataset" in done.stdout


def test_help_of_a_command_imports_no_http_stack() -> None:
    done = _fresh(
        "import sys; from windlass.cli.main import run; run(['job', 'create', '--help']); "
        "print('httpx2' in sys.modules, file=sys.stderr)"
    )
    assert done.stderr.strip() == "False"
    assert "--dry-run" in done.stdout


def test_base_install_imports_every_command_and_the_sdk() -> None:
    code = BLOCKED + (
        "import importlib, pkgutil, windlass.cli.commands, windlass.sdk\n"
        "for module in pkgutil.iter_modules(windlass.cli.commands.__path__):\n"
        "    importlib.import_module('windlass.cli.commands.' + module.name)\n"
        "print('fine')\n"
    )
    done = _fresh(code)
    assert done.stdout == "fine\n", done.stderr


def test_up_without_server_packages_names_the_extra_to_install(tmp_path: Any) -> None:
    done = _fresh(
        "import importlib.util, sys\n"
        "find_spec = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name in {EXTRAS!r} else find_spec(name, *a)\n"
        f"from windlass.cli.main import run; sys.exit(run(['up', '--home', {str(tmp_path)!r}]))"
    )
    assert done.returncode == 7
    assert "pip install 'windlass[embedded]'" in done.stderr
    assert "ray" in done.stderr


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(typer.Context(group)):
        real = _load(name) if not path else group.commands[name]
        if isinstance(real, TyperGroup):
            yield from _commands(real, (*path, name))
        else:
            yield (*path, name)


ALL = [*_commands(typer.main.get_command(app))]


def test_documented_commands_exist() -> None:
    known = {" ".join(path) for path in ALL}
    assert {
        "up",
        "down",
        "status",
        "doctor",
        "predict",
        "chat",
        "usage",
        "completions",
        "project create",
        "member set",
        "dataset upload",
        "dataset clean",
        "job create",
        "job logs",
        "job watch",
        "job simulate",
        "model alias",
        "endpoint update",
        "quota set",
        "pool set",
        "key revoke",
        "base-model add",
        "examples fetch",
    } <= known


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help(windlass: Windlass, path: tuple[str, ...]) -> None:
    result = windlass(*path, "--help")
    assert result.code == 0
    assert " ".join(path) in result.out
    if path not in (("completions",), ("pipeline", "compile")):  # they write a file or a script
        assert "--output" in result.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_print_a_script_for_the_shell(windlass: Windlass, shell: str) -> None:
    result = windlass("completions", shell)
    assert result.code == 0
    assert "_WINDLASS_COMPLETE" in result.out


def test_shell_completes_the_commands_of_a_group(tmp_path: Any) -> None:
    environment = {"_WINDLASS_COMPLETE": "complete_bash", "COMP_WORDS": "windlass job wa", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'windlass'; from windlass.cli.main import main; main()"],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["wait", "watch"]


def test_closed_pipe_is_no_error() -> None:
    code = "import sys; from windlass.cli.main import run; sys.exit(run(['examples', 'list', '--json']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_stale_server_file_is_ignored(tmp_path: Any) -> None:
    (tmp_path / "server.json").write_text('{"pid": 1, "start_time": 5.0, "url": "http://127.0.0.1:1", "version": "0"}')
    assert local_server.read(tmp_path) is None
