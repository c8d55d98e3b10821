"""``windlass completions``: the script that makes a shell complete the command."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from typer import completion

from windlass.cli.main import COMPLETION_VARIABLE

app = typer.Typer(add_completion=False)


class Shell(StrEnum):
    """The shells that are known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completions(shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print a completion script, to be sourced by the shell.

    Like: windlass completions bash > ~/.local/share/bash-completion/completions/windlass
    """
    script: str = completion.get_completion_script(  # type: ignore[attr-defined]  # typer has no public name for it
        prog_name="windlass", complete_var=COMPLETION_VARIABLE, shell=shell.value
    )
    sys.stdout.write(script + "\n")
