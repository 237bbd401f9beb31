"""Pickles of arrays, read without running what else a pickle may hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data.payloads import opened


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """What `_codecs.encode` is there for in pickles of Python 3: the bytes of an array."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding!r}")
    return text.encode("latin1")


def _buffered(payload: bytes, dtype: Any, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    """An array as protocol 5 has it."""
    return np.frombuffer(payload, dtype).reshape(shape, order=order)


def _known() -> Mapping[tuple[str, str], Callable[..., Any]]:
    """All that a pickle of arrays, numbers, bytes, lists and dictionaries refers to."""
    array: Any = np.zeros(0).__reduce__()
    number: Any = np.float64(0).__reduce__()
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encoded,
    }
    for package in ("numpy.core", "numpy._core"):  # numpy's name before and after 2.0
        known[f"{package}.multiarray", "_reconstruct"] = array[0]
        known[f"{package}.multiarray", "scalar"] = number[0]
        known[f"{package}.numeric", "_frombuffer"] = _buffered
    return MappingProxyType(known)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _known()[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, and only arrays are read") from None


def read_pickle(path: Path) -> dict[Any, Any]:
    """The dictionary that a file holds pickled, with bytes for the strings of Python 2.

    Raises:
        BadInput: the file cannot be read, is no pickle of a dictionary, or refers to anything but arrays.
    """
    with opened(path) as file:
        try:
            content = _Unpickler(file, encoding="bytes").load()
        except Exception as error:  # noqa: BLE001 - a damaged pickle raises whatever its opcodes lead to
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(f"{path} cannot be unpickled (truncated?): {reason}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a pickled {type(content).__name__}, where a dictionary is expected")
    return content
