"""IREE, compiled by LLVM for this processor; its importer is torch-mlir's."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from iree import compiler, runtime

from benchmarks.backends.calling import Arrays, Run, call


def prepare(file: Path, inputs: Arrays) -> Run:
    """Import and compile a model."""
    to = file.with_suffix(".mlir")
    call([sys.executable, "-m", "iree.compiler.tools.import_onnx", str(file), "-o", str(to)], file.parent)
    options = ["--iree-llvmcpu-target-cpu=host"]
    code = compiler.compile_file(str(to), target_backends=["llvm-cpu"], extra_args=options)
    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, code))
    function = context.modules.module[onnx.load(file).graph.name]
    return lambda given: [function(*given.values()).to_host()]
