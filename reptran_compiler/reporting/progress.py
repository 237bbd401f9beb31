"""Progress on long work: seen on a terminal, silent anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

#: ``step(description, done, total)``: what is being worked on; ``total`` None where nobody can tell.
Step = Callable[[str, int, "int | None"], None]


def silent(description: str, done: int = 0, total: int | None = None) -> None:
    """A `Step` that shows nothing."""


@contextmanager
def progress(console: Console, *, quiet: bool = False) -> Iterator[Step]:
    """Show one line of progress while the block runs, and take it away at its end.

    Yields a function to call with what is being done, how much of it is done, and of how much. It shows
    nothing where ``console`` is no terminal, or where ``quiet`` is asked for.
    """
    if quiet or not console.is_terminal:
        yield silent
        return
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        def step(description: str, done: int = 0, total: int | None = None) -> None:
            bars.update(task, description=description, completed=done, total=total)

        yield step
