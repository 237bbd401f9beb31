"""Whether a compiled file computes what the independent RepTran form in torch computes.

A sign near zero turns a rounding error into a difference of 2 that spreads, so the two are compared decision by
decision: the torch form is fed the binarised maps that onnxruntime computed, and everything between one
binarisation and the next has to agree.  A decision counts as different where the torch form, which reached its
binarisation under onnxruntime's own earlier decisions, would decide otherwise than onnxruntime did: so an early
flip is charged once, where it happens, and not again for what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

import models
from reptran_compiler.runtime import RuntimeFailure, run

Array = NDArray[Any]

#: How far a pre-sign tensor or the output may be off, relative to its largest value.
TOLERANCE = 1e-4
#: How far from zero the input of a decision that differs may be, relative to its tensor's largest value.
NEAR_ZERO = 1e-5


@dataclass(frozen=True)
class Agreement:
    """A compiled file against the torch form.

    Attributes:
        binarisations: how many there are; each one's input was compared, and the output.
        worst: the largest difference, relative to its tensor's largest value.
        worst_tensor: where: a module's name, or "output".
        decisions: how many single decisions were compared.
        differing: those that differ, given the same decisions before them.
        largest_input: the largest |input| of one of these, relative to its tensor's largest value.
        free_flips: decisions that differ when both run freely from the same images, consequences included.
        failures: what is not as it has to be, one sentence each.
    """

    binarisations: int
    worst: float
    worst_tensor: str
    decisions: int
    differing: int
    largest_input: float
    free_flips: int
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Point:
    """One binarisation in both: `before` and `after` as onnxruntime has them, `torch_before` under its
    decisions, and what the torch module decides on either."""

    name: str
    before: Array
    after: Array
    torch_before: Array
    decided: Array
    torch_decided: Array

    @property
    def differs(self) -> Array:
        """Where the torch form decides otherwise: an array of booleans."""
        found: Array = self.torch_decided != self.after
        return found

    @property
    def largest_input(self) -> float:
        """The largest |input| of a decision that differs, relative to the tensor's largest value."""
        inputs = np.abs(self.torch_before[self.differs])
        return float(inputs.max() / _largest(self.torch_before)) if inputs.size else 0.0

    def failures(self) -> Iterator[str]:
        """What is wrong here."""
        wrong = int(np.count_nonzero(self.decided != self.after))
        if wrong:
            yield f"{self.name}: on equal inputs, {wrong} decisions are not those of the network's binarisation"
        if self.largest_input > NEAR_ZERO:
            yield f"{self.name}: a decision differs at an input of {self.largest_input:.1e} of the largest"


def agree(network: nn.Module, file: Path, result: onnx.ModelProto, beta: int, *, batch: int = 2) -> Agreement:
    """Compare `result`, compiled from `file`, with the RepTran form of `network`, which `file` is an export of.

    The exporter's fusions are done to the network first (THEORY section 3, "What the result depends on").  Both run
    once, on `batch` images drawn from a seed.

    Raises:
        RuntimeFailure: the result does not run, or has lost a tensor at a binarisation.
        ValueError: the file does not show where a binarisation is, or a map has another shape than in torch.
    """
    source = onnx.load(str(file))
    wide = models.rep_form(models.fuse(network, models.fused_norms(network, source)), beta)
    images = np.random.default_rng(1).standard_normal((batch, *models.plan_of(network).image), dtype=np.float32)
    free = models.trace(wide, images)
    names = _Names(source, result)
    places = {b.name: (names.find(b.before), names.find(b.after)) for b in models.binarisations(network, source)}
    output = result.graph.output[0].name
    feeds = {result.graph.input[0].name: images}
    found = run(result, feeds, [output, *(name for pair in places.values() for name in pair)])
    before = {name: found[places[name][0]] for name in free.names}
    after = {name: found[places[name][1]] for name in free.names}
    forced = models.trace(wide, images, forced=[after[name] for name in free.names])
    points = [
        _Point(name, before[name], after[name], x, _decide(wide, name, before[name]), _decide(wide, name, x))
        for name, x in zip(forced.names, forced.before, strict=True)
    ]
    errors = {point.name: _relative(point.before, point.torch_before) for point in points}
    errors["output"] = _relative(found[output], forced.output)
    worst = max(errors, key=lambda name: errors[name])
    failures = [
        f"{name}: off by {error:.1e} of its largest value" for name, error in errors.items() if not error <= TOLERANCE
    ]
    failures += [failure for point in points for failure in point.failures()]
    return Agreement(
        binarisations=len(points),
        worst=errors[worst],
        worst_tensor=worst,
        decisions=sum(point.after.size for point in points),
        differing=sum(int(np.count_nonzero(point.differs)) for point in points),
        largest_input=max((point.largest_input for point in points), default=0.0),
        free_flips=sum(
            int(np.count_nonzero(np.sign(y) != after[name])) for name, y in zip(free.names, free.after, strict=True)
        ),
        failures=tuple(failures),
    )


@dataclass(frozen=True)
class _Names:
    """Finds tensors of a source in its result; what an Identity of the source passes on has several names."""

    source: onnx.ModelProto
    result: onnx.ModelProto

    def find(self, name: str) -> str:
        """The name that the result knows the tensor by.  Raises RuntimeFailure where it does not."""
        alias = {node.output[0]: node.input[0] for node in self.source.graph.node if node.op_type == "Identity"}
        known = {value.name for value in self.result.graph.input}
        known.update(output for node in self.result.graph.node for output in node.output)
        tried = name
        while tried not in known:
            if tried not in alias:
                raise RuntimeFailure(f"the result has no tensor {name!r}, which the source binarises or binarised")
            tried = alias[tried]
        return tried


@torch.no_grad()
def _decide(network: nn.Module, name: str, x: Array) -> Array:
    """What binarisation `name` of `network` decides on `x`: -1, 0 or +1 (its rounding residue left out)."""
    decided: Array = np.sign(network.get_submodule(name)(torch.from_numpy(np.array(x))).numpy())
    return decided


def _largest(x: Array) -> float:
    return float(np.abs(x).max()) or 1.0


def _relative(found: Array, expected: Array) -> float:
    """The largest difference over the largest expected value; inf where shapes differ, NaN where a value is."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found.astype(np.float64) - expected).max() / _largest(expected))
