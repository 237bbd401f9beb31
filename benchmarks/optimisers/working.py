"""One tool on one file, in a process of its own: `python working.py TOOL IN OUT` prints what it took as JSON.

Only what the tool needs is imported, and before the clock starts.  This file runs in the tools' environment, where the
compiler is not installed.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[str, str], object]


def copied() -> Work:
    """Nothing but loading and saving."""
    onnx = importlib.import_module("onnx")
    return lambda source, target: onnx.save(onnx.load(source), target)


def compiled(verify: bool) -> Work:
    """The compiler, with beta 2."""
    compiler = importlib.import_module("reptran_compiler.compiler")
    importlib.import_module("reptran_passes")
    importlib.import_module("onnxruntime")
    return lambda source, target: compiler.compile_model(source, 2, output=target, verify=verify)


def slimmed() -> Work:
    """onnxslim with its defaults."""
    onnxslim = importlib.import_module("onnxslim")
    return lambda source, target: onnxslim.slim(source, target)


def simplified() -> Work:
    """onnxsim with its defaults."""
    onnx, onnxsim = importlib.import_module("onnx"), importlib.import_module("onnxsim")
    return lambda source, target: onnx.save(onnxsim.simplify(onnx.load(source))[0], target)


def optimised() -> Work:
    """The optimiser of onnxscript with its defaults."""
    onnx, optimizer = importlib.import_module("onnx"), importlib.import_module("onnxscript.optimizer")
    return lambda source, target: onnx.save(optimizer.optimize(onnx.load(source)), target)


#: The tools by name: what imports one and gives its work.
TOOLS: dict[str, Callable[[], Work]] = {
    "load + save": copied,
    "reptran-compile --no-verify": lambda: compiled(False),
    "reptran-compile": lambda: compiled(True),
    "onnxslim": slimmed,
    "onnxsim": simplified,
    "onnxscript.optimizer": optimised,
}


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    """Run one tool; returns the exit code."""
    tool, source, target = sys.argv[1:]
    work = TOOLS[tool]()
    start, before = time.process_time(), peak()
    work(source, target)
    print(json.dumps({"seconds": time.process_time() - start, "peak": peak(), "before": before}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
