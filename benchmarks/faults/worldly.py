"""Faults that the system itself gives: limits, full and read-only disks, signals at any time, runs side by side."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.faults.injecting import perform, start, wait
from benchmarks.faults.room import MODEL, Content, Form, Room, command, run
from benchmarks.faults.rows import Row

_NOBODY = 65534
_DISK = 16 << 20


def size_limit(room: Room, log: Path) -> Row:
    """No file may exceed some sizes (RLIMIT_FSIZE)."""
    made = Row("file size limit", room.form.name)
    for size in (4096, room.largest // 2, room.largest - 1):
        room.prepare()

        def work(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            room.write()

        _refused(made, room, f"limit {size}", work, log)
    return made


def full_disk(form: Form, old: Content, new: Content, disk: Path, log: Path) -> Row:
    """A file system with less room than the outputs need."""
    made = Row("full disk (tmpfs)", form.name)
    with _mounted(disk) as there:
        if not there:
            return replace(made, note="not possible here: no file system can be mounted")
        room = Room(disk / "room", form, old, new)
        for left in (0, 1 << 13, 1 << 16, 1 << 17):
            room.prepare()
            status = os.statvfs(disk)
            (disk / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize - left))
            _refused(made, room, f"{left} bytes left", room.write, log, before_again=(disk / "ballast").unlink)
    return made


def read_only(form: Form, old: Content, new: Content, disk: Path, log: Path) -> Row:
    """A read-only file system, and a read-only folder for a user who is not root."""
    made = Row("read-only file system and folder", form.name)
    with _mounted(disk) as there:
        if not there or os.getuid():
            return replace(made, note="not possible here: only root can mount file systems and be someone else")
        room = Room(disk / "room", form, old, new)
        room.prepare()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        writable = ["mount", "-o", "remount,rw", str(disk)]
        _refused(made, room, "file system", room.write, log, lambda: subprocess.run(writable, check=True))
        room.prepare()
        room.folder.chmod(0o555)

        def as_nobody() -> None:
            os.setuid(_NOBODY)
            room.write()

        _refused(made, room, "folder", as_nobody, log)
    return made


def at_once(room: Room, rounds: int, *, kill: bool = False) -> Row:
    """Two processes that write to one output, three times each; one is killed on the way, or not."""
    what = "two runs at once" + (", one of them killed" if kill else "")
    made, dice = Row(what, room.form.name), random.Random(0)
    for number in range(rounds):
        room.prepare()
        children = [start(partial(_thrice, write)) for write in (room.write_old, room.write)]
        if kill:
            time.sleep(dice.uniform(0, 0.03))
            os.kill(children[number % 2], signal.SIGKILL)
        codes = [wait(child) for child in children]
        found = room.look()
        where = f"round {number + 1}"
        made.count(where, min(codes), found, may_leave_parts=kill, may_be_old=True)
        if not kill:
            made.see(codes == [0, 0], f"{where}: exit codes {codes}")
            made.see({found.model} == set(found.texts), f"{where}: mixed, {found}")
            made.see(not found.strays, f"{where}: weights that nothing refers to, {found}")
        room.write()
        made.see(room.look().all_new, f"{where}, the run after: {room.look()}")
    return made


def at_random(room: Room, model: Path, external: bool, name: str, rounds: int) -> Row:
    """A signal at any time of the command's run, without verification."""
    made, dice = Row(f"{name} at random times of the command", room.form.name), random.Random(name)
    words = command(4, *(["--external-data"] if external else []))
    lasts = 0.0
    for number in range(-1, rounds):
        room.prepare()
        shutil.copy(model, room.folder / "in.onnx")
        begun = time.perf_counter()
        process = run(words, room.folder)
        if number < 0:  # how long it lasts
            made.see(process.wait() == 0 and room.look().all_new, f"undisturbed: {process.returncode}, {room.look()}")
            lasts = time.perf_counter() - begun
            continue
        # Half of the times towards the end, where it writes.
        after = lasts * dice.uniform(0.85 if number % 2 else 0.1, 1.02)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send_signal(getattr(signal, name))
        code = process.wait()
        where = f"after {after:.2f} of {lasts:.2f} s"
        made.count(where, code, room.look(), may_leave_parts=name == "SIGKILL")
        room.write()
        made.see(room.look().all_new, f"{where}, the run after: {room.look()}")
    return made


def data_exists(room: Room) -> Row:
    """Where the data file of the new result goes there is something already."""
    made = Row("the new data file's name is taken", room.form.name)
    room.prepare()
    before = set(room.folder.iterdir())
    room.write()
    (place,) = (path for path in room.folder.glob(f"{MODEL}.*.data") if path not in before)
    content = place.read_bytes()
    elsewhere = room.folder.parent / "elsewhere"
    elsewhere.write_bytes(b"someone's")

    def folder() -> None:
        place.mkdir()
        (place / "something").write_bytes(b"someone's")

    for what, put in (
        ("the same content", lambda: place.write_bytes(content)),
        ("half of it", lambda: place.write_bytes(content[: len(content) // 2])),
        ("a link to elsewhere", lambda: place.symlink_to(elsewhere)),
        ("nothing but a name", lambda: place.symlink_to(room.folder / "nowhere")),
        ("a folder", folder),
    ):
        room.prepare()
        put()
        code = wait(start(room.write))
        if place.is_dir():
            shutil.rmtree(place)
            made.see(code == 2, f"{what}: exit code {code}")
        made.count(what, code, room.look(), may_leave_parts=False)
    made.see(elsewhere.read_bytes() == b"someone's", "what a link pointed to was written to")
    elsewhere.unlink()
    return made


def shared_data(room: Room) -> Row:
    """Another model, a copy of the replaced one, refers to the replaced one's data."""
    made = Row("a copy refers to the replaced data", room.form.name)
    room.prepare()
    (data,) = room.folder.glob(f"{MODEL}.*.data")
    content = data.read_bytes()
    shutil.copy(room.folder / MODEL, room.folder / "copy.onnx")
    code = wait(start(room.write))
    made.see(data.exists() and data.read_bytes() == content, "the data of the copy is gone")
    made.count("", code, room.look(), may_leave_parts=False)
    return made


def _thrice(write: Callable[[], object]) -> None:
    for _ in range(3):
        write()


def _refused(
    made: Row,
    room: Room,
    where: str,
    work: Callable[[], object],
    log: Path,
    before_again: Callable[[], object] = lambda: None,
) -> None:
    """Work that has to be refused and to change nothing; what was in the way is taken away, and the next run writes."""
    ending = perform(work, log)
    made.see(ending.code == 2, f"{where}: exit code {ending.code}")
    found = room.look()
    before_again()
    made.count(where, ending.code, found, may_leave_parts=False)
    again = perform(room.write, log)
    made.see(again.code == 0 and room.look().all_new, f"{where}, the run after: {again.code}, {room.look()}")


@contextmanager
def _mounted(place: Path) -> Iterator[bool]:
    """An empty file system of a few megabytes; whether there is one."""
    place.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(place)]
    try:
        there = subprocess.run(words, check=False, capture_output=True).returncode == 0
    except OSError:
        there = False
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", str(place)], check=True)
