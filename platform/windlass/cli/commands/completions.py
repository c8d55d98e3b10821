"""``windlass completions``: shell completion scripts."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from typer import completion

from windlass.cli.main import COMPLETION_VARIABLE

app = typer.Typer(add_completion=False)


class Shell(StrEnum):
    """The supported shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completions(shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print a completion script for the shell to source.

    Example: windlass completions bash > ~/.local/share/bash-completion/completions/windlass
    """
    script: str = completion.get_completion_script(  # type: ignore[attr-defined]  # typer exports no public name
        prog_name="windlass", complete_var=COMPLETION_VARIABLE, shell=shell.value
    )
    if shell is Shell.BASH:
        # Bash splits words at @, for names of hosts, and would complete the parts of reviews@2 separately.
        sys.stdout.write("COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n")
    sys.stdout.write(script + "\n")
