"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

#: What decides how fast integers are, as Linux calls it.
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def machine() -> str:
    """Processor, what it has for integers, its cores, and the version of onnxruntime."""
    told = _told()
    name = told.get("model name") or platform.processor() or platform.machine()
    known = ", ".join(_known(told)) or "no vectors known"
    return f"{name} ({known}), {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}"


def cpu() -> str:
    """The word of `--cpu` for this machine."""
    return "vnni" if "avx512_vnni" in _known(_told()) else "avx2"


def _known(told: Mapping[str, str]) -> list[str]:
    flags = told.get("flags", "").split()
    return [feature for feature in _FEATURES if feature in flags]


def _told() -> dict[str, str]:
    """What Linux tells of a processor; nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
