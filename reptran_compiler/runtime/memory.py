"""How large a tensor may be: what would fill the memory is refused before it is made."""

from __future__ import annotations

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
