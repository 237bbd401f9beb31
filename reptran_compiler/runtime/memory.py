"""How large a tensor may be: what would fill the memory is refused before it is made."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

#: A tensor may take one part in so many of the memory there is: a run holds several, those of a network in RepTran form
#: are beta times as large, and verification holds both.
_SHARE = 16
_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNKNOWN = 1 << 36
#: Settings of glibc's mallopt, and their values: arrays up to so many bytes come from memory that is kept.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST_KEPT, _NEVER = 1 << 28, (1 << 31) - 1


def keep_freed() -> None:
    """Let this process keep the memory that it frees, to use it again: for a process of its own, such as a command.

    Verification takes and frees large arrays by the thousand, and the C library (glibc; others stay as they are) would
    ask the system for each of them, which hands out pages one by one.
    """
    with suppress(OSError, AttributeError, TypeError):
        tune = ctypes.CDLL(None).mallopt
        tune(_MMAP_THRESHOLD, _LARGEST_KEPT)
        tune(_TRIM_THRESHOLD, _NEVER)


def largest_tensor() -> int:
    """How many bytes a tensor may take: a sixteenth of what machine, control group and process' limit allow."""
    limits = []
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for place in _CONTROL_GROUPS:
        with suppress(ValueError, OSError):
            limits.append(int(Path(place).read_text()))
    with suppress(ImportError, ValueError, OSError):
        import resource

        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    return min((limit for limit in limits if limit > 0), default=_UNKNOWN) // _SHARE


def too_large(shape: Sequence[int], dtype: Any) -> str:
    """Why a tensor is not made, "" where it may be.

    Args:
        shape: its shape, no size negative.
        dtype: a numpy dtype.
    """
    asked, limit = math.prod(shape) * np.dtype(dtype).itemsize, largest_tensor()
    if asked <= limit:
        return ""
    sizes = "x".join(map(str, shape))
    return f"({sizes}) takes {asked:.3g} bytes: too much for this machine, where {limit:.3g} are allowed"
