"""`verify_pair`: is a Rep network what RepTran makes of an original, and does it keep to its budgets?"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import ModelProto

from reptran_compiler.gate.asked import Asked
from reptran_compiler.gate.budgets import parse_budget
from reptran_compiler.gate.pair import Mode, Pair
from reptran_compiler.model.io import from_proto, read_model
from reptran_compiler.outputs import PathLike
from reptran_compiler.qonnx import readable
from reptran_compiler.reporting import Step, Verification, silent
from reptran_compiler.reproducer import check_folder, write_evidence
from reptran_compiler.verification import Evidence


@np.errstate(all="ignore")
def verify_pair(
    original: ModelProto | PathLike,
    rep: ModelProto | PathLike,
    beta: int | None = None,
    *,
    scope: str | None = None,
    fc: str | None = None,
    bn: str | None = None,
    weights: str | None = None,
    repeat: str | None = None,
    sign_zero: str | None = None,
    exclude: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
    ignore_metadata: bool = False,
    retrained: bool = False,
    layers_only: bool = False,
    budgets: Sequence[str] = (),
    dims: Mapping[str, int] | None = None,
    threads: int = 1,
    seed: int = 0,
    reproducer: PathLike | None = None,
    progress: Step = silent,
) -> Verification:
    """Check a Rep network against the network that it was made from.

    Without `retrained` its values have to be those of the compilation: the law is checked tensor by tensor. With it,
    its graph has to be the compilation's, operator by operator, whatever its parameters are.

    Args:
        original: the original, or the file that it is in ("-" for standard input).
        rep: the Rep network, or its file.
        beta: the replication factor. This and the options that follow are None for what the Rep network's metadata
            records, or the default of `compile_model` where it records nothing.
        scope, fc, bn, weights, repeat, sign_zero, exclude, include, rules: as those of `compile_model`.
        ignore_metadata: whether what the metadata records counts for nothing.
        retrained: whether the Rep network was trained since it was compiled.
        layers_only: of a retrained network, whether to compare the layers one by one and not how they are connected.
        budgets: limits such as "macs=0%", "total-params=+4%", "bytes<=12MB".
        dims: sizes for runs of dynamic axes other than the batch, by the axis' name, or as "INPUT:AXIS".
        threads: threads of onnxruntime.
        seed: of the numbers that it is verified with.
        reproducer: a new or empty folder, to which a broken law writes the part that shows it, with a script.
        progress: told what is being done.

    Returns:
        What was checked. A Rep network that is not what it should be is a failure in it, and not an exception.

    Raises:
        BadInput: a file cannot be read, the original does not run or cannot be compiled as asked, or an option
            contradicts what the Rep network's metadata records (exit code 2).
    """
    start = time.perf_counter()
    limits = tuple(parse_budget(text) for text in budgets)
    if reproducer is not None:
        check_folder(reproducer)
    progress("reading", 0, None)
    asked = Asked(beta, scope, fc, bn, weights, repeat, sign_zero, exclude, include, rules, ignore_metadata)
    mode: Mode = "layers" if layers_only else "retrained" if retrained else "values"
    sources = [readable(from_proto(each, name) if isinstance(each, ModelProto) else read_model(each))
               for each, name in ((original, "the original"), (rep, "the Rep network"))]  # fmt: skip
    pair = Pair(sources[0], sources[1], asked, mode, dims, threads, seed, progress)
    made = pair.verify(limits)
    if reproducer is not None and made.exit_code == 3:
        made = replace(made, notes=(*made.notes, _reproduced(made, pair.evidence, reproducer)))
    return replace(made, seconds=time.perf_counter() - start)


def _reproduced(made: Verification, evidence: Evidence | None, folder: PathLike) -> str:
    """Write what shows a failure, if a tensor's numbers do. Returns what to say of it."""
    if evidence is None:
        return "no reproducer: no tensor shows it by its numbers"
    if not evidence.storable:
        return f"no reproducer: numpy cannot store what {evidence.tensor!r} is made of"
    settings = {**made.options, "original": made.original, "rep": made.rep, "beta": made.beta, "mode": made.mode}
    write_evidence(evidence, made.failures[0], settings, folder)
    return f"reproducer: {os.fspath(folder)} ({evidence.nodes} nodes, which make {evidence.tensor!r})"
