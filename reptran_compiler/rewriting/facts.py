"""What is known of the tensors of a graph besides their connections: shape, type, value, and tags that rules leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto

from reptran_compiler.model import Constant, Graph, Node, Tensor
from reptran_compiler.model.referred import aligned
from reptran_compiler.rewriting.region import Region, extract, makers
from reptran_compiler.rewriting.rows import Rows, blocks, in_rows
from reptran_compiler.runtime import RuntimeFailure, TensorFact

Array = NDArray[Any]


class CannotContinue(Exception):
    """The model cannot be compiled; the message says where and why."""


#: Operators that give other values in every run (Dropout where it trains).
RANDOM = frozenset(
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli Dropout".split()
)
_KEEPS_UNIFORM = frozenset("Expand Reshape Unsqueeze Squeeze Identity Transpose Tile Flatten".split())
#: How many elements of tensors are computed together at most.
_TOGETHER = 1 << 26
#: The least number of elements of tensors that are computed in blocks of rows.
_LARGE = 1 << 15
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Neg": np.negative,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Cast": np.asarray,
}


class Facts:
    """Shapes and types of a graph's tensors in some runs ("cases"), and tags of them.

    A tag is whatever a family of rules wants to know of a tensor beyond its values, such as that it is wide.

    Args:
        graph: the graph.
        cases: shape and type by name, once for each run.
        integers: the values of integer tensors that the shapes of a run determine, by name, once for each run.
        threads: threads of onnxruntime, where parts of the graph are run that take long.
    """

    def __init__(
        self,
        graph: Graph,
        cases: Sequence[Mapping[str, TensorFact]],
        integers: Sequence[Mapping[str, Array]] | None = None,
        threads: int = 1,
    ) -> None:
        self.graph, self.threads = graph, threads
        self.cases = [dict(case) for case in cases]
        self._integers = integers or [{} for _ in cases]
        self.tags: dict[str, Any] = {}
        self._looked = False
        self._constant: dict[int, tuple[Tensor, bool]] = {}
        self._values: dict[int, tuple[Tensor, Constant]] = {}
        self._regions: dict[tuple[Any, ...], Region] = {}

    def refresh(self) -> None:
        """The graph has changed: what was no constant may be one now."""
        self._looked = False
        self._constant = {key: known for key, known in self._constant.items() if known[1]}

    def renamed(self, name: str, behind: str) -> None:
        """A new tensor took a name over; the tensor that had it is called `behind` now."""
        for case in self.cases:
            if name in case:
                case[behind] = case[name]
        if name in self.tags:
            self.tags[behind] = self.tags[name]

    def exchanged(self, one: str, other: str) -> None:
        """Two tensors took each other's names; what is not known of one is found out where it is asked for."""
        for known in (*self.cases, self.tags):
            values = [(to, known.pop(name)) for name, to in ((one, other), (other, one)) if name in known]
            known.update(values)

    def source(self, tensor: Tensor, case: int = 0) -> TensorFact:
        """Shape and type as the untagged graph has them."""
        if isinstance(tensor, Constant):
            return TensorFact(tuple(tensor.shape), np.dtype(tensor.dtype))
        known = self.cases[case].get(tensor.name)
        if known is None:
            self._infer(tensor, case)
            known = self.cases[case][tensor.name]
        return known

    def of(self, tensor: Tensor, case: int = 0) -> TensorFact:
        """Shape and type as the tensor is now. Tags that change shapes override this."""
        return self.source(tensor, case)

    def derived(self, tensor: Tensor) -> bool:
        """Whether a tensor is an auxiliary one that regions look through, down to what it is computed from."""
        return False

    def integers(self, tensor: Tensor, case: int) -> Array | None:
        """The value of an integer tensor that the shapes of a run determine; None where they do not."""
        return self._integers[case].get(tensor.name)

    def tied(self, tensor: Tensor, values: Array) -> Array:
        """Random integers for a tensor, made to obey what its tag says of them."""
        return values

    def constant(self, tensor: Tensor) -> bool:
        """Whether a tensor is stored, or computed from stored tensors alone."""
        if isinstance(tensor, Constant):
            return True
        found = self._constant.get(id(tensor))
        if found is not None:
            return found[1]
        stack = [tensor]
        while stack:
            here = stack[-1]
            if id(here) in self._constant:
                stack.pop()
                continue
            maker: Node | None = here.inputs[0] if here.inputs else None
            reads = maker.inputs if maker is not None else ()
            known = [self._constant.get(id(each)) for each in reads if not isinstance(each, Constant)]
            if maker is None:
                self._constant[id(here)] = (here, here.name == "")
            elif any(each is not None and not each[1] for each in known) or not self._repeatable(maker):
                self._constant[id(here)] = (here, False)
            elif None in known:
                stack += [each for each in reads if not isinstance(each, Constant) and id(each) not in self._constant]
            else:
                self._constant[id(here)] = (here, True)
        return self._constant[id(tensor)][1]

    def value(self, tensor: Tensor) -> Array | None:
        """The value of a tensor that is stored or computed from stored ones; None of any other.

        Raises:
            RuntimeFailure: onnxruntime cannot compute it.
        """
        if isinstance(tensor, Constant):
            return np.asarray(tensor.values)
        if not self.constant(tensor):
            return None
        if id(tensor) not in self._values:
            try:
                self._evaluate([tensor, *self._alike(tensor)])
            except RuntimeFailure:
                self._evaluate([tensor])
        return self._values[id(tensor)][1].values

    def rows(self, tensor: Tensor) -> Iterator[Array]:
        """The value of a tensor that `constant` is true of, in blocks of rows: of entries along its first axis.

        A large one that is computed row by row is never held whole.

        Raises:
            RuntimeFailure: onnxruntime cannot compute it.
        """
        return (block for (block,) in self.together(tensor))

    def together(self, tensor: Tensor, *others: Tensor) -> Iterator[tuple[Array, ...]]:
        """As `rows`, of several tensors of one shape: the same rows of each. What they are computed from is read once
        for all that the first one is computed with."""
        shape = self.source(tensor).shape
        by_row = self._by_row(tensor, shape)
        first = by_row.computed(self._reducer()) if by_row is not None else None
        apart = [each for each in (tensor, *others) if by_row is None or not by_row.gives(each)]
        readers = {id(each): self._reader(each, shape) for each in apart}
        for block in blocks(shape):
            known = {} if first is None else first(block)
            yield tuple(
                readers[id(each)](block) if id(each) in readers else known[id(each)] for each in (tensor, *others)
            )

    def _reader(self, tensor: Tensor, shape: tuple[int, ...]) -> Callable[[slice], Array]:
        """What gives some rows of a tensor of some shape."""
        if isinstance(tensor, Constant):
            return tensor.reader()
        by_row = self._by_row(tensor, shape)
        if by_row is None:
            return np.asarray(self.value(tensor)).__getitem__
        compute = by_row.computed(self._reducer())
        return lambda block: compute(block)[id(tensor)]

    def _by_row(self, tensor: Tensor, shape: tuple[int, ...]) -> Rows | None:
        """What computes a large tensor row by row; None where it is stored, known, or not computed so."""
        if isinstance(tensor, Constant) or id(tensor) in self._values or not _is_large(shape):
            return None
        return in_rows(makers(tensor), tensor, lambda each: self.source(each).shape, self.value)

    def _reducer(self) -> Callable[[Node, Array], Array]:
        """What gives for an operator that reduces what it makes of an array in the place of what it reads first."""

        @cache
        def session(node: Node, dtype: np.dtype[Any], rank: int) -> Region:
            (made,), read = node.outputs, node.inputs[0]
            region = extract(self.graph, [made], lambda each: each is read, fed=lambda each: each is read)
            return self._regions.setdefault((region.key, dtype, rank), region)  # one for all that reduce alike

        def reduced(node: Node, values: Array) -> Array:
            region = session(node, values.dtype, values.ndim)
            return region.run({id(each): aligned(values) for each in region.inputs.values()})[0]

        return reduced

    def uniform(self, tensor: Tensor) -> float | None:
        """The number that every element of a tensor is, whatever its shape; None where that is not certain."""
        if isinstance(tensor, Constant) or self.constant(tensor):
            value = self.value(tensor)
            if value is None or not value.size or value.dtype.kind not in "fiub":
                return None
            flat = value.reshape(-1)
            return float(flat[0]) if bool((flat == flat[0]).all()) else None
        maker: Node | None = tensor.inputs[0] if tensor.inputs else None
        if maker is None:
            return None
        if maker.op_type == "ConstantOfShape":
            given = maker.attrs.get("value")
            return 0.0 if given is None else float(np.asarray(given).reshape(-1)[0])
        if maker.op_type in _KEEPS_UNIFORM:
            return self.uniform(maker.inputs[0])
        if maker.op_type in _ARITHMETIC:
            operands = [self.uniform(each) for each in maker.inputs]
            if all(each is not None for each in operands):
                dtype = np.dtype(self.source(tensor).dtype)
                found = _ARITHMETIC[maker.op_type](*(np.asarray(each).astype(dtype) for each in operands))
                return float(np.asarray(found).astype(dtype))
        return None

    def _repeatable(self, node: Node) -> bool:
        """Whether an operator computes the same from the same, and reads nothing but its inputs."""
        if node.op_type == "Constant":
            return True
        body = node.source is not None and any(a.HasField("g") or a.graphs for a in node.source.attribute)
        if body or node.op_type in RANDOM:
            return False
        return bool(node.inputs) or _stored_inside(self.graph.model.functions, node.domain or "", node.op)

    def _evaluate(self, tensors: Sequence[Tensor]) -> None:
        """Compute the values of tensors, all in one run."""
        found = extract(self.graph, tensors, lambda each: False).run({})
        for tensor, values in zip(tensors, found, strict=True):
            self._values[id(tensor)] = (tensor, self.graph.stored(tensor.name, values))

    def _alike(self, tensor: Tensor) -> list[Tensor]:
        """Other tensors that rules will want the value of if they want that of one: of weights, all computed ones.

        They are looked for once before the next `refresh`, and as many are told as `_TOGETHER` allows.
        """
        if self._looked or not any(_weight(reader) is tensor for reader in tensor.outputs):
            return []
        self._looked, room = True, _TOGETHER
        found: dict[int, Tensor] = {id(tensor): tensor}
        for weight in (each for node in self.graph.nodes if (each := _weight(node)) is not None):
            known = isinstance(weight, Constant) or id(weight) in self._values or id(weight) in found
            if known or not self.constant(weight) or _is_large(shape := self.source(weight).shape):
                continue
            if (size := math.prod(shape)) <= room:
                found[id(weight)] = weight
                room -= size
        return list(found.values())[1:]

    def _infer(self, tensor: Tensor, case: int) -> None:
        """Shape and type of a tensor that a rule made, from those of the tensors that it is computed from."""
        known = self.cases[case]
        region = extract(self.graph, [tensor], lambda each: each.name in known)
        unknown = [read.name for read in region.inputs.values() if read.name not in known]
        found = {} if unknown else region.shapes([self.of(read, case) for read in region.inputs.values()])
        if region.outputs[0] not in found:
            raise CannotContinue(f"the shape of {tensor.name!r} is not known: it may be a sequence or an optional")
        known[tensor.name] = found[region.outputs[0]]


def _stored_inside(functions: Iterable[FunctionProto], domain: str, name: str) -> bool:
    """Whether a local function without inputs consists of stored tensors and what is computed from them."""
    found = next((each for each in functions if (each.domain, each.name) == (domain, name)), None)
    if found is None or any(a.HasField("g") or a.graphs for node in found.node for a in node.attribute):
        return False
    inner = (node for node in found.node if not node.input and node.op_type != "Constant")
    return all(node.op_type not in RANDOM for node in found.node) and all(
        _stored_inside(functions, node.domain, node.op_type) for node in inner
    )


def _is_large(shape: tuple[int, ...]) -> bool:
    """Whether a tensor is one to be computed in blocks of rows, where that can be."""
    return math.prod(shape) >= _LARGE


def _weight(node: Node) -> Tensor | None:
    """What a layer's operator contracts with; None of other operators."""
    return node.input(1) if node.op_type in ("Conv", "Gemm", "MatMul") else None
