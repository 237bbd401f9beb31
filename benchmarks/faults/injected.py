"""Faults at every file-system operation of the writing, one after the other."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

from benchmarks.faults.injecting import Fault, perform
from benchmarks.faults.room import Room
from benchmarks.faults.rows import Row

_CHANGES = frozenset({"open", "os.rename", "os.remove"})
FAULTS = (
    Fault("SIGKILL at every operation", signal=signal.SIGKILL),
    Fault("SIGTERM at every operation", signal=signal.SIGTERM),
    Fault("SIGINT at every operation", signal=signal.SIGINT),
    Fault("disk full from every write on", errno=errno.ENOSPC, kinds=frozenset({"write"}), lasting=True),
    Fault("quota exceeded at every write", errno=errno.EDQUOT, kinds=frozenset({"write"})),
    Fault("EIO at every fsync", errno=errno.EIO, kinds=frozenset({"fsync"})),
    Fault("EIO at every operation", errno=errno.EIO),
    Fault("EACCES at every rename", errno=errno.EACCES, kinds=frozenset({"os.rename"})),
    Fault("read-only from every operation on", errno=errno.EROFS, kinds=_CHANGES, lasting=True),
)


def row(room: Room, fault: Fault, log: Path, every: int = 1) -> Row:
    """Let a fault happen at every operation that it can happen to.

    Args:
        room: where.
        fault: which.
        log: a scratch file outside of the room.
        every: leave out all but each so many operations.
    """
    made = Row(fault.name, room.form.name)
    room.prepare()
    undisturbed = perform(room.write, log)
    made.see(undisturbed.code == 0, f"without a fault: exit code {undisturbed.code}")
    total = sum(fault.hits(kind) for kind in undisturbed.operations)
    made.see(total > 0, "the fault can happen to no operation")
    # What removes half-written files is hit as well, where the fault is not a signal.
    may_leave = fault.signal == signal.SIGKILL or bool(fault.errno and fault.hits("os.remove"))
    for at in range(0, total, every):
        room.prepare()
        ending = perform(room.write, log, fault, at)
        where = f"at operation {at + 1} of {total}"
        if fault.signal is not None and fault.signal != signal.SIGINT and ending.code == 0:
            made.failures.append(f"{where}: the signal did not end it")
        made.count(where, ending.code, room.look(), may_leave_parts=may_leave)
        again = perform(room.write, log)
        made.see(again.code == 0 and room.look().all_new, f"{where}, the run after: {again.code}, {room.look()}")
    return made
