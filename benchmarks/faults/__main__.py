"""Faults of the world, and whether what was there, or the new result, is whole afterwards.

    python -m benchmarks.faults [--every N] [--rounds N] [-o FILE]

writes one table, a row for each fault in each form, and ends with 1 where a row fails. As root, it mounts small file
systems of its own.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.faults import worldly
from benchmarks.faults.injected import FAULTS, row
from benchmarks.faults.room import FORMS, Room, compiled
from benchmarks.faults.rows import Row, table
from benchmarks.faults.same_file import same_file
from reptran_compiler.model.writing import write_bytes

_MODEL = Path(__file__).parents[2] / "models" / "files" / "reactnet-tiny.onnx"


def tasks(model: Path, folder: Path, *, every: int = 1, rounds: int = 200) -> list[Callable[[], Row]]:
    """What makes the rows.

    Args:
        model: what is compiled, with beta 2 for what is there before, and with beta 4.
        folder: an empty scratch folder.
        every: leave out all but each so many operations.
        rounds: how often what hangs on time is tried; an eighth as often for the whole command.
    """
    scratch, log, disk = folder / "scratch", folder / "log", folder / "disk"
    folder.chmod(0o755)  # for a user that is not root
    scratch.mkdir()
    old, new = (compiled(model, beta, scratch) for beta in (2, 4))
    rooms = {form: Room(folder / f"room{number}", form, old, new) for number, form in enumerate(FORMS)}
    made: list[Callable[[], Row]] = []
    made += [partial(row, room, fault, log, every) for fault in FAULTS for room in rooms.values()]
    for form in FORMS[:2]:
        room = rooms[form]
        made.append(partial(worldly.size_limit, room, log))
        made.append(partial(worldly.full_disk, form, old, new, disk, log))
        made.append(partial(worldly.read_only, form, old, new, disk, log))
        made.append(partial(same_file, model, folder / "same", bool(form.after)))
        for name in ("SIGKILL", "SIGTERM", "SIGINT"):
            made.append(partial(worldly.at_random, room, model, form.after, name, max(1, rounds // 8)))
    for form in FORMS[:4]:
        made.append(partial(worldly.at_once, rooms[form], rounds))
        made.append(partial(worldly.at_once, rooms[form], rounds, kill=True))
    made.append(partial(worldly.data_exists, rooms[FORMS[1]]))
    made.append(partial(worldly.shared_data, rooms[FORMS[1]]))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th operation (default: 1)")
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="tries where time decides (default: 200)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else list(arguments)
    title = shlex.join(["python", "-m", "benchmarks.faults", *words])
    rows: list[Row] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reptran-faults-") as folder:
        todo = tasks(_MODEL, Path(folder), every=options.every, rounds=options.rounds)
        for number, task in enumerate(todo, 1):
            rows.append(task())
            left = (time.perf_counter() - begun) / number * (len(todo) - number)
            state = rows[-1].failures[0] if rows[-1].failures else "ok"
            said = f"[{number}/{len(todo)}, {left:.0f} s left] {rows[-1].fault}, {rows[-1].form}: {state}"
            print(said, file=sys.stderr, flush=True)
    if options.output is None:
        print(table(rows, title))
    else:
        write_bytes(table(rows, title).encode(), options.output)
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
