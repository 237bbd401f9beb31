"""Packages that only some work needs: named with the command that installs them, where they are missing."""

from __future__ import annotations

import importlib.util

from reptran_compiler.errors import BadInput


def need(module: str, what: str, extra: str = "reptran-compiler[train]") -> None:
    """See that a package can be imported. It is not imported.

    Args:
        module: its top-level name.
        what: what it is needed for.
        extra: what to install.

    Raises:
        BadInput: it is not installed; the message says how to get it.
    """
    if importlib.util.find_spec(module) is None:
        raise BadInput(f"{what} needs {module}, which is not installed: pip install '{extra}'")
