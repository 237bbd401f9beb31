"""A second look at a result, without the compiler's judge: does it run, with the source's interface?"""

from __future__ import annotations

from pathlib import Path

import onnx

from reptran_compiler.model.io import read_model
from reptran_compiler.runtime import RuntimeFailure, random_feeds, run
from reptran_compiler.trial import try_source


def complaint_about(source: Path, result: Path) -> str:
    """What is wrong with a result of which the command said that it is verified; "" where nothing is.

    Args:
        source: the file that was compiled.
        result: the file that was written.
    """
    before, after = read_model(source).model, onnx.load(str(result))
    names = [[value.name for value in each.graph.output] for each in (before, after)]
    if names[0] != names[1]:
        return f"graph outputs {names[1]} for {names[0]}"
    trial = try_source(before)
    feeds = random_feeds(before, batch=trial.batches[0], dims=trial.dims)
    first = run(before, feeds)
    try:
        second = run(after, feeds)
    except RuntimeFailure as error:
        return f"does not run: {error}"
    for name, one in first.items():
        two = second[name]
        if (one.shape, one.dtype) != (two.shape, two.dtype):
            return f"output {name!r} is {two.dtype} {two.shape} for {one.dtype} {one.shape}"
    return ""
