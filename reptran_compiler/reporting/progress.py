"""Progress on long work: seen on a terminal, silent anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: ``step(description, done, total)``: what is being worked on; ``total`` None where nobody can tell.
Step = Callable[[str, int, "int | None"], None]


def silent(description: str, done: int = 0, total: int | None = None) -> None:
    """A `Step` that shows nothing."""


@contextmanager
def progress(console: Console, *, quiet: bool = False, remaining: bool = False) -> Iterator[Step]:
    """Show one line of progress while the block runs, and take it away at its end.

    Yields a function to call with what is being done, how much of it is done, and of how much. It shows
    nothing where ``console`` is no terminal, or where ``quiet`` is asked for. With ``remaining`` it says how long the
    rest will take, beside the time that has passed.
    """
    if quiet or not console.is_terminal:
        yield silent
        return
    words = TextColumn("{task.description}", markup=False)
    count = TextColumn("{task.fields[count]}", markup=False)
    columns: list[ProgressColumn] = [words, BarColumn(), count, TimeElapsedColumn()]
    if remaining:
        columns += [TextColumn("left:"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=None, count="")

        def step(description: str, done: int = 0, total: int | None = None) -> None:
            bars.tasks[0].total = total  # `update` would keep the last one
            bars.update(task, description=description, completed=done, count=f"{done}/{total}" if total else "")

        yield step
