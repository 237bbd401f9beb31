"""A compiler that brings binary neural networks in ONNX into their RepTran form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reptran_compiler.compiler import CompileResult, compile_model

__all__ = ["CompileResult", "compile_model"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from reptran_compiler import compiler

        return getattr(compiler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
