"""What a model shows to its users: graph inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from onnx import ModelProto, TensorProto, ValueInfoProto

from reptran_compiler.verification.report import Failure


def describe(value: ValueInfoProto) -> str:
    """Type and shape of a graph input or output, as people write them."""
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value"))
    kind = value.type.tensor_type
    name = TensorProto.DataType.Name(kind.elem_type).lower()
    if not kind.HasField("shape"):
        return f"{name} of unknown rank"
    sizes = [str(d.dim_value) if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
    return f"{name}[{', '.join(sizes)}]"


def interface_failures(before: ModelProto, after: ModelProto) -> list[Failure]:
    """Where the graph inputs and outputs of two models differ: names, order, types, shapes, dynamic axes."""
    failures = list(_differences("graph input", _fed(before), _fed(after)))
    failures.extend(_differences("graph output", before.graph.output, after.graph.output))
    return failures


def _fed(model: ModelProto) -> list[ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _differences(kind: str, before: Sequence[ValueInfoProto], after: Sequence[ValueInfoProto]) -> Iterable[Failure]:
    names = [value.name for value in before], [value.name for value in after]
    if names[0] != names[1]:
        yield Failure("", "", "interface", f"{kind}s are {names[1]} instead of {names[0]}")
        return
    for old, new in zip(before, after, strict=True):
        if describe(old) != describe(new):
            yield Failure(old.name, "", "interface", f"{kind} is {describe(new)} instead of {describe(old)}")
