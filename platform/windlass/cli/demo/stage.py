"""How the demonstration tells its story: phases with their seconds, facts, tables; plain text when nobody watches."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from windlass.cli.safe_text import one_line

_PLAIN_WIDTH = 120
"""Cells of a table where no terminal says how wide it is."""


class DemoError(Exception):
    """A step did not do what it is there to show."""


class Stage:
    """Prints, and keeps how long each phase took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._phases: list[tuple[str, float]] = []

    def title(self, text: str) -> None:
        """Open the story or a part of it."""
        self.console.print()
        self.console.print(Text(text, style="bold underline" if self.console.is_terminal else ""))

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Announce a phase, and say its seconds when it has ended well."""
        self.console.print()
        self.console.print(Text.assemble(("> ", "bold cyan"), (title, "bold")), soft_wrap=True)
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self._phases.append((title, seconds))
        self.console.print(Text(f"  {seconds:.1f} s", style="dim"))

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print(Text(f"  {one_line(text)}"), soft_wrap=not self.console.is_terminal)

    def command(self, text: str) -> None:
        """Print a command to be copied."""
        self.console.print(Text(f"    {text}", style="green" if self.console.is_terminal else ""), soft_wrap=True)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], *, strong: int | None = None) -> None:
        """Print a table; row ``strong`` stands out. Cells may hold anybody's text."""
        drawn = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        drawn.add_column("")
        for title in titles:
            drawn.add_column(title, overflow="fold")
        for index, row in enumerate(rows):
            drawn.add_row("", *(Text(one_line(cell)) for cell in row), style="bold green" if index == strong else "")
        self.console.print(drawn, width=None if self.console.is_terminal else _PLAIN_WIDTH)

    def summary(self) -> None:
        """Print what happened and how long it took."""
        self.title("What happened")
        total = sum(seconds for _, seconds in self._phases)
        rows = [[title, f"{seconds:.1f} s"] for title, seconds in self._phases]
        self.table(["phase", "time"], [*rows, ["all", f"{total:.1f} s"]], strong=len(rows))
        self.console.print()
