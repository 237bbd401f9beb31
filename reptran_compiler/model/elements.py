"""Operators and tensors of a graph: graphsurgeon's, equal only to themselves.

graphsurgeon compares nodes and tensors deeply, which makes every list removal slow and merges look-alikes.
The classes here compare by identity, and keep both ends of a link without detours; everything else is graphsurgeon's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnx_graphsurgeon.util.misc import SynchronizedList

from reptran_compiler.model.protos import element_dtype
from reptran_compiler.model.referred import array_of, is_referred, is_signs, rows_of
from reptran_compiler.model.subgraphs import captured

Array = NDArray[Any]

_NOTHING: Mapping[str, None] = MappingProxyType({})


class _Links(SynchronizedList):  # type: ignore[misc]
    """What an operator or a tensor is linked with: each of these is linked back, in its list called `field_name`."""

    def __init__(self, owner: Any, back: str, initial: Sequence[Any] = ()) -> None:
        self.parent_obj, self.field_name = owner, back
        if initial:
            list.extend(self, initial)
            for each in initial:
                list.append(each.__dict__[back], owner)

    def clear(self) -> None:
        """Become empty; the other sides forget the owner."""
        back, owner = self.field_name, self.parent_obj
        for each in self:
            list.remove(each.__dict__[back], owner)
        list.clear(self)


class Unread(gs.ir.tensor.LazyValues):  # type: ignore[misc]
    """The values of a stored tensor, not read yet."""

    def __init__(self, tensor: TensorProto) -> None:
        self.tensor, self.shape, self.dtype = tensor, tuple(tensor.dims), element_dtype(tensor.data_type)

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

    def __init__(self, name: str) -> None:
        here = self.__dict__
        here["name"], here["dtype"], here["shape"], here["type"] = name, None, None, "tensor_type"
        here["inputs"], here["outputs"] = _Links(self, "outputs"), _Links(self, "inputs")


class Constant(gs.Constant):  # type: ignore[misc]
    """A stored tensor. It never changes: another value is another constant."""

    name: str
    inputs: list[Node]
    outputs: list[Node]
    source: TensorProto | None
    _values: Any

    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __setattr__ = _set

    def __init__(self, name: str, values: Array | Unread, source: TensorProto | None = None) -> None:
        here = self.__dict__
        here["name"], here["_values"], here["source"] = name, values, source
        here["data_location"] = here["_export_dtype"] = None
        here["inputs"], here["outputs"] = _Links(self, "outputs"), _Links(self, "inputs")

    @property
    def values(self) -> Array:
        """The values, loaded when first asked; the array is read-only for good, and so is the attribute."""
        loaded: Array = self._values.load() if isinstance(self._values, Unread) else self._values
        if isinstance(self._values, Unread) and not is_referred(self._values.tensor):
            self._values = loaded  # what is referred to is not kept: it is at hand
        if loaded.flags.writeable:
            loaded.flags.writeable = False
            # A view of an array that is read-only cannot be made writeable.
            self._values = loaded = loaded.view()
        return loaded

    def rows(self, block: slice) -> Array:
        """The values of some entries along the first axis; of what is referred to, no others are read."""
        source = self.reference
        return self.values[block] if source is None else rows_of(source, block)

    @property
    def reference(self) -> TensorProto | None:
        """The tensor that it was read from, while it is referred to; None where its values are held."""
        unread = isinstance(self._values, Unread) and is_referred(self._values.tensor)
        return self._values.tensor if unread else None

    @property
    def are_signs(self) -> bool:
        """Whether its values are known to be 1, -1 and 0, without a look at them."""
        return self.reference is not None and is_signs(self.reference)


Tensor = Variable | Constant


class Node(gs.Node):  # type: ignore[misc]
    """An operator.

    Attributes:
        op_type: the operator type, with its domain in front where that is not ONNX' own.
        source: the node of the file that it stems from: its metadata goes along with it.
        gone: whether it was taken out of its graph.
    """

    op: str
    op_type: str
    name: str
    attrs: dict[str, Any]
    domain: str | None
    inputs: list[Tensor]
    outputs: list[Variable]

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        op: str,
        name: str,
        attrs: dict[str, Any],
        inputs: Sequence[Tensor],
        outputs: Sequence[Variable],
        domain: str | None = None,
        source: NodeProto | None = None,
    ) -> None:
        here = self.__dict__
        here["op"], here["name"], here["attrs"] = op, name, attrs
        here["op_type"] = op if not domain or domain == "ai.onnx" else f"{domain}.{op}"
        here["domain"], here["source"], here["gone"] = domain, source, False
        here["inputs"], here["outputs"] = _Links(self, "outputs", inputs), _Links(self, "inputs", outputs)

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value)
        if name == "op" or name == "domain":
            own = not self.domain or self.domain == "ai.onnx"
            self.__dict__["op_type"] = self.op if own else f"{self.domain}.{self.op}"

    @property
    def captured(self) -> Mapping[str, None]:
        """The names that its subgraphs read, in order, those that they make themselves included."""
        known: Mapping[str, None] | None = self.__dict__.get("_captured")
        if known is None:
            known = _NOTHING if self.source is None else dict.fromkeys(captured(self.source)) or _NOTHING
            self.__dict__["_captured"] = known
        return known

    def input(self, position: int) -> Tensor | None:
        """An input, None where it is absent."""
        if position >= len(self.inputs) or self.inputs[position].name == "":
            return None
        return self.inputs[position]
