"""Output of the demo: phases with durations, messages, tables; plain text unless on a terminal."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from windlass.cli.safe_text import one_line

_PLAIN_WIDTH = 120
"""Table width in cells if the output is not a terminal."""


class DemoError(Exception):
    """A step of the demo failed."""


class DemoConsole:
    """Prints the demo's output and records the duration of each phase."""

    def __init__(self, console: Console) -> None:
        self.console = console
        # A console narrows what it prints to its own width, 80 cells if the output is not a terminal.
        self._tables = console if console.is_terminal else Console(file=console.file, width=_PLAIN_WIDTH)
        self._phases: list[tuple[str, float]] = []

    def title(self, text: str) -> None:
        """Print a heading."""
        self.console.print()
        self.console.print(Text(text, style="bold underline" if self.console.is_terminal else ""))

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Print the title of a phase, and its duration if it succeeds."""
        self.console.print()
        self.console.print(Text.assemble(("> ", "bold cyan"), (title, "bold")), soft_wrap=True)
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self._phases.append((title, seconds))
        self.console.print(Text(f"  {seconds:.1f} s", style="dim"))

    def message(self, text: str) -> None:
        """Print a line."""
        self.console.print(Text(f"  {one_line(text)}"), soft_wrap=not self.console.is_terminal)

    def command(self, text: str) -> None:
        """Print a command."""
        self.console.print(Text(f"    {text}", style="green" if self.console.is_terminal else ""), soft_wrap=True)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], *, strong: int | None = None) -> None:
        """Print a table; row ``strong`` is highlighted. Cells may contain untrusted text."""
        drawn = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        drawn.add_column("")
        for title in titles:
            drawn.add_column(title, overflow="fold")
        for index, row in enumerate(rows):
            drawn.add_row("", *(Text(one_line(cell)) for cell in row), style="bold green" if index == strong else "")
        self._tables.print(drawn)

    def summary(self) -> None:
        """Print the duration of each phase."""
        self.title("Summary")
        total = sum(seconds for _, seconds in self._phases)
        rows = [[title, f"{seconds:.1f} s"] for title, seconds in self._phases]
        self.table(["phase", "time"], [*rows, ["total", f"{total:.1f} s"]], strong=len(rows))
        self.console.print()
