"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import onnxruntime

#: What decides how fast integers are, as Linux calls it.
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def machine() -> str:
    """Processor, what it has for integers, its cores, and the version of onnxruntime."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            flags = set(value.split())
    known = [feature for feature in _FEATURES if feature in flags]
    cores = os.cpu_count()
    return f"{name} ({', '.join(known) or 'no vectors known'}), {cores} cores, onnxruntime {onnxruntime.__version__}"
