"""Mutations of what is stored and of what types are stated: initializers, their data, dims and element types."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from benchmarks.hostile.drawing import FLOATS, NAMES, Change, Nothing, Random, name, number, one, tensor


def _drop(model: ModelProto, random: Random) -> None:
    model.graph.initializer.remove(one(random, model.graph.initializer))


def _repeat(model: ModelProto, random: Random) -> None:
    model.graph.initializer.add().CopyFrom(one(random, model.graph.initializer))


def _swap(model: ModelProto, random: Random) -> None:
    first, second = one(random, model.graph.initializer), one(random, model.graph.initializer)
    first.name, second.name = second.name, first.name


def _rename(model: ModelProto, random: Random) -> None:
    one(random, model.graph.initializer).name = one(random, [*NAMES, name(model, random)])


def _hurt_dims(model: ModelProto, random: Random) -> None:
    changed = tensor(model, random)
    if changed.dims and random.random() < 0.7:
        changed.dims[int(random.integers(len(changed.dims)))] = number(random)
    else:
        changed.dims[:] = [number(random) for _ in range(int(random.integers(0, 7)))]


def _cut_data(model: ModelProto, random: Random) -> None:
    changed = tensor(model, random)
    draw, data = random.random(), changed.raw_data
    if draw < 0.3:
        changed.raw_data = data[: int(random.integers(len(data) + 1))]
    elif draw < 0.6:
        changed.raw_data = data + random.bytes(int(random.integers(1, 9)))
    elif draw < 0.8:
        changed.ClearField("raw_data")
    else:
        changed.float_data.extend([1.0] * int(random.integers(1, 9)))


def _retype(model: ModelProto, random: Random) -> None:
    types = [*TensorProto.DataType.values(), 99, -1]
    try:
        tensor(model, random).data_type = one(random, types)
    except ValueError:
        raise Nothing from None


def _unpack(model: ModelProto, random: Random) -> None:
    """The same numbers in the typed field, which old exporters use."""
    changed = tensor(model, random)
    try:
        values = numpy_helper.to_array(changed)
        made = helper.make_tensor(changed.name, changed.data_type, changed.dims, values.ravel().tolist())
    except Exception:  # noqa: BLE001 - a tensor that an earlier mutation broke
        raise Nothing from None
    changed.CopyFrom(made)


def _hurt_values(model: ModelProto, random: Random) -> None:
    """Numbers that hurt in the place of stored ones: sizes in shapes, infinities in weights."""
    changed = tensor(model, random)
    try:
        values = numpy_helper.to_array(changed).copy()
    except Exception:  # noqa: BLE001 - as above
        raise Nothing from None
    if not values.size or values.dtype.kind not in "fiub":
        raise Nothing
    flat = values.reshape(-1)
    places = random.integers(flat.size, size=int(random.choice([1, 1, flat.size])))
    hurt = one(random, FLOATS) if values.dtype.kind == "f" else number(random)
    if values.dtype.kind == "f":
        flat[places] = hurt
    else:
        flat[places] = (
            int(hurt) & 0xFF if values.itemsize == 1 else int(hurt) & 0x7FFFFFFF if values.itemsize == 4 else hurt
        )
    changed.CopyFrom(numpy_helper.from_array(values, changed.name))


def _go_external(model: ModelProto, random: Random) -> None:
    changed = tensor(model, random)
    changed.data_location = TensorProto.EXTERNAL
    place = one(random, ["in.onnx", "../in.onnx", "/etc/passwd", "", ".", "/dev/zero", "nowhere", "tmp", "\0", "a\\b"])
    entries = {"location": place, "offset": str(number(random)), "length": str(number(random))}
    for key, value in entries.items():
        if key == "location" or random.random() < 0.5:
            changed.external_data.add(key=key, value=value)


def _go_sparse(model: ModelProto, random: Random) -> None:
    changed = one(random, model.graph.initializer)
    made = model.graph.sparse_initializer.add(dims=changed.dims)
    made.values.CopyFrom(changed)
    made.indices.CopyFrom(helper.make_tensor("places", TensorProto.INT64, [1], [number(random)]))
    if random.random() < 0.7:
        model.graph.initializer.remove(changed)


def _cast_everything(model: ModelProto, random: Random) -> None:
    """Another element type throughout, with data in that type."""
    kind = one(random, [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.INT32])
    for stored in model.graph.initializer:
        if stored.data_type == TensorProto.FLOAT and len(stored.raw_data) % 4 == 0:
            try:
                values = numpy_helper.to_array(stored)
            except Exception:  # noqa: BLE001 - as above
                raise Nothing from None
            stored.CopyFrom(helper.make_tensor(stored.name, kind, stored.dims, values.ravel().tolist()))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind


def _hurt_type(model: ModelProto, random: Random) -> None:
    """The stated type of a graph input, an output, or a tensor inside."""
    changed = _value(model, random)
    kind = changed.type.tensor_type
    draw = random.random()
    if draw < 0.2:
        kind.elem_type = one(random, [0, 1, 2, 7, 8, 9, 10, 11, 14, 16, 17, 99])
    elif draw < 0.3:
        changed.ClearField("type")
    elif draw < 0.4:
        kind.ClearField("shape")
    elif draw < 0.5:
        changed.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    elif draw < 0.6 or not kind.shape.dim:
        kind.shape.dim.add().dim_value = number(random)
    elif draw < 0.7:
        del kind.shape.dim[-1]
    elif draw < 0.8:
        one(random, kind.shape.dim).dim_param = one(random, ["N", "H", "2*N", *NAMES])
    else:
        one(random, kind.shape.dim).dim_value = number(random)


def _add_value_info(model: ModelProto, random: Random) -> None:
    model.graph.value_info.append(
        helper.make_tensor_value_info(name(model, random), TensorProto.FLOAT, [number(random) for _ in range(3)])
    )


def _shadow_input(model: ModelProto, random: Random) -> None:
    """An initializer that is a graph input, too, with another type than it has."""
    stored = one(random, model.graph.initializer)
    model.graph.input.append(helper.make_tensor_value_info(stored.name, TensorProto.INT64, [number(random)]))


def _annotate(model: ModelProto, random: Random) -> None:
    note = model.graph.quantization_annotation.add(tensor_name=name(model, random))
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=name(model, random))


def _value(model: ModelProto, random: Random) -> ValueInfoProto:
    graph = model.graph
    found: ValueInfoProto = one(random, [*graph.input, *graph.input, *graph.output, *graph.value_info])
    return found


#: Every mutation of tensors, by name.
TENSORS: Mapping[str, Change] = {
    "a tensor dropped": _drop,
    "a tensor repeated": _repeat,
    "two tensors swapped": _swap,
    "a stored tensor renamed": _rename,
    "dims of a tensor": _hurt_dims,
    "data of a wrong size": _cut_data,
    "another element type": _retype,
    "data in the typed field": _unpack,
    "stored numbers": _hurt_values,
    "external data": _go_external,
    "a sparse tensor": _go_sparse,
    "another type throughout": _cast_everything,
    "a stated type": _hurt_type,
    "value_info": _add_value_info,
    "an initializer as an input": _shadow_input,
    "a quantization annotation": _annotate,
}
