"""Operators and tensors of a graph: graphsurgeon's, equal only to themselves.

graphsurgeon compares nodes and tensors deeply, which makes every list removal slow and merges look-alikes.
The classes here compare by identity, and keep both ends of a link without detours; everything else is graphsurgeon's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnx_graphsurgeon.util.misc import SynchronizedList

from reptran_compiler.model.protos import element_dtype, plain_attributes
from reptran_compiler.model.referred import array_of, is_referred, is_signs, row_reader, zeros_of

Array = NDArray[Any]


class _Links(SynchronizedList):  # type: ignore[misc]
    """What an operator or a tensor is linked with: each of these is linked back, in its list called `field_name`."""

    __slots__ = ("parent_obj",)
    field_name: str

    def __init__(self, owner: Any) -> None:
        self.parent_obj = owner

    def clear(self) -> None:
        """Become empty; the other sides forget the owner."""
        back, owner = self.field_name, self.parent_obj
        for each in self:
            list.remove(each.__dict__[back], owner)
        list.clear(self)


class _Inputs(_Links):
    """What an operator reads, or what makes a tensor."""

    __slots__ = ()
    field_name = "outputs"


class _Outputs(_Links):
    """What an operator makes, or what reads a tensor."""

    __slots__ = ()
    field_name = "inputs"


class Unread(gs.ir.tensor.LazyValues):  # type: ignore[misc]
    """The values of a stored tensor, not read yet."""

    def __init__(self, tensor: TensorProto) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return tuple(self.tensor.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        return element_dtype(self.tensor.data_type)

    def load(self) -> Array:
        """The values."""
        return array_of(self.tensor)


def _set(self: Any, name: str, value: Any) -> None:
    """Set an attribute of a tensor or an operator; graphsurgeon's way, which keeps both sides linked, is slow."""
    if name == "inputs" or name == "outputs":
        gs.Variable.__setattr__(self, name, value)
    else:
        object.__setattr__(self, name, value)


class Variable(gs.Variable):  # type: ignore[misc]
    """A tensor that is computed or fed. `inputs` holds its maker (none or one), `outputs` its readers."""

    name: str
    inputs: list[Node]
    outputs: list[Node]

    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __setattr__ = _set

    dtype: Any = None
    shape: Any = None
    type = "tensor_type"

    def __init__(self, name: str) -> None:
        here = self.__dict__
        here["name"], here["inputs"], here["outputs"] = name, _Inputs(self), _Outputs(self)


class Constant(gs.Constant):  # type: ignore[misc]
    """A stored tensor, which no operator makes. It never changes: another value is another constant."""

    name: str
    inputs: Sequence[Node] = ()
    outputs: list[Node]
    source: TensorProto | None
    _values: Any

    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __setattr__ = _set

    data_location: Any = None
    _export_dtype: Any = None

    def __init__(self, name: str, values: Array | Unread, source: TensorProto | None = None) -> None:
        here = self.__dict__
        here["name"], here["_values"], here["source"], here["outputs"] = name, values, source, _Outputs(self)

    @property
    def values(self) -> Array:
        """The values, loaded when first asked; the array is read-only for good, and so is the attribute."""
        held = self._values
        loaded: Array = held.load() if isinstance(held, Unread) else held
        if loaded.flags.writeable:
            loaded.flags.writeable = False
            loaded = loaded.view()  # a view of an array that is read-only cannot be made writeable
        if loaded is not held and not (isinstance(held, Unread) and is_referred(held.tensor)):
            self.__dict__["_values"] = loaded  # what is referred to is not kept: it is at hand
        return loaded

    def reader(self) -> Callable[[slice], Array]:
        """What gives the values of some entries along the first axis; of what is referred to, no others are read."""
        source = self.reference
        return self.values.__getitem__ if source is None else row_reader(source)

    @cached_property
    def zeros(self) -> int:
        """How many of its values are 0."""
        source = self.reference
        return int(np.count_nonzero(self.values == 0)) if source is None else zeros_of(source)

    @property
    def reference(self) -> TensorProto | None:
        """The tensor that it was read from, while it is referred to; None where its values are held."""
        held = self._values
        return held.tensor if isinstance(held, Unread) and is_referred(held.tensor) else None

    @property
    def are_signs(self) -> bool:
        """Whether its values are known to be 1, -1 and 0, without a look at them."""
        source = self.reference
        return source is not None and is_signs(source)


Tensor = Variable | Constant


class Node(gs.Node):  # type: ignore[misc]
    """An operator.

    Attributes:
        op_type: the operator type, with its domain in front where that is not ONNX' own.
        source: the node of the file that it stems from: its metadata goes along with it.
        captured: the names that its subgraphs read, in order, those that they make themselves included.
        gone: whether it was taken out of its graph.
    """

    op: str
    op_type: str
    name: str
    domain: str | None
    source: NodeProto | None
    captured: Mapping[str, None] = MappingProxyType({})
    gone: bool = False
    inputs: list[Tensor]
    outputs: list[Variable]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        op: str,
        name: str,
        attrs: dict[str, Any] | None,
        inputs: Sequence[Tensor],
        outputs: Sequence[Variable],
        domain: str | None = None,
        source: NodeProto | None = None,
        inside: Iterable[str] = (),
    ) -> None:
        here = self.__dict__
        here["op"], here["name"], here["domain"], here["source"] = op, name, domain, source
        here["op_type"] = op if not domain or domain == "ai.onnx" else f"{domain}.{op}"
        if attrs is not None:
            here["attrs"] = attrs
        if inside:
            here["captured"] = dict.fromkeys(inside)
        here["inputs"], here["outputs"] = read, made = _Inputs(self), _Outputs(self)
        list.extend(read, inputs)
        for tensor in inputs:
            list.append(tensor.outputs, self)
        list.extend(made, outputs)
        for tensor in outputs:
            list.append(tensor.inputs, self)

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """The attributes by name; those of the file's node are read when they are first asked for."""
        return plain_attributes(self.source)

    @property
    def as_read(self) -> bool:
        """Whether its attributes are those of the file's node, as nobody has looked at them."""
        return "attrs" not in self.__dict__

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value)
        if name == "op" or name == "domain":
            own = not self.domain or self.domain == "ai.onnx"
            self.__dict__["op_type"] = self.op if own else f"{self.domain}.{self.op}"

    def input(self, position: int) -> Tensor | None:
        """An input, None where it is absent."""
        if position >= len(self.inputs) or self.inputs[position].name == "":
            return None
        return self.inputs[position]
