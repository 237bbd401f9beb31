"""The form of a model that is trained: its own where the compiler made it, else its canonical form."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from onnx import ModelProto

from reptran_compiler import provenance
from reptran_compiler.canonicalisation import canonicalise
from reptran_compiler.errors import BadInput
from reptran_compiler.model.io import from_proto, read_model
from reptran_compiler.pipeline import Options, Refusal, available_rules
from reptran_compiler.qonnx import readable
from reptran_compiler.rewriting import Refused
from reptran_compiler.trial import try_source


class Compiled(Protocol):
    """What a compilation gave."""

    @property
    def model(self) -> ModelProto:
        """The result."""


Trainable = ModelProto | str | os.PathLike[str] | Compiled


def trained_form(source: Trainable) -> ModelProto:
    """The form of a model that is trained.

    A Rep network that the compiler wrote is that already.  Any other model is brought into the canonical form, in which
    every spelling of a binarisation is one operator, and magnitudes of binary weights stand behind their layers.  Each
    rewrite is executed before and after, as in a compilation: what is trained has to be what was given.

    Args:
        source: a model, its file, or the result of a compilation.

    Raises:
        BadInput: the file cannot be read, the model does not run, or it was written for deployment.
    """
    if not isinstance(source, (ModelProto, str, os.PathLike)):
        source = source.model
    given = from_proto(source) if isinstance(source, ModelProto) else read_model(source)
    model = readable(given).model
    _see_trainable(model, given.name)
    if provenance.recorded_beta(model) is not None:
        return model
    trial = try_source(model)
    options = Options(dims=tuple(sorted(trial.dims.items())))
    rules = [rule for rule in available_rules(options) if rule.phase == "canonicalise"]
    try:
        with np.errstate(all="ignore"):
            return canonicalise(model, options, rules).model
    except (Refused, Refusal) as error:
        raise BadInput(f"{given.name} cannot be brought into canonical form: {error}") from None


def _see_trainable(model: ModelProto, name: str) -> None:
    """Raise `BadInput` for a file that was lowered: what it stores cannot be learnt from."""
    recorded = provenance.recorded_options(model)
    usual = {"optimize": "none", "classifier": "float"}
    lowered = [f"--{key} {recorded[key]}" for key, value in usual.items() if recorded.get(key, value) != value]
    lowered += ["--weights packed"] if recorded.get("weights") == "packed" else []
    if lowered:
        how = ", ".join(lowered)
        raise BadInput(
            f"{name} was compiled for deployment ({how}): train the result of a compilation without that, and lower "
            "what was trained"
        )
