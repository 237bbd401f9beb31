"""What is told of a model's shapes and integers holds at every size of its dynamic axes, as onnxruntime runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reptran_compiler.model.symbolic import Dimension, Symbols, constant_values, symbolic
from reptran_compiler.runtime import RuntimeFailure, probe

BIG = 2**63 - 1
ARITHMETIC = (
    "Add Sub Mul Div Mod Min Max Clip Neg Abs Cast Where Logic Concat Gather Slice Reduce Fold Expand Tile Split Fill"
).split()
IMAGES = (
    "Conv MaxPool AveragePool ConvTranspose Slice Pad Resize Sizes Reshape"
    " Transpose Merge Split Blocks Mean Global Bias"
).split()
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """Builds a model on one float input `x`; tensors are named t0, t1, ..."""

    def __init__(self, shape: Sequence[str | int | None], opset: int = 17) -> None:
        self.shape, self.opset = list(shape), opset
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[TensorProto] = []

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        """An initializer."""
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 0, **attributes: Any) -> Any:
        """A node; its output, or a list of them if `outputs` says how many."""
        names = [f"t{len(self.nodes)}" + (f".{i}" if outputs else "") for i in range(outputs or 1)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names if outputs else names[0]

    def size(self, index: int) -> str:
        """The size of an axis of `x`, [1]."""
        return str(self.add("Gather", self.add("Shape", "x"), self.const([index])))

    def model(self) -> ModelProto:
        """The model; its output is the last node's."""
        last = helper.make_empty_tensor_value_info(self.nodes[-1].output[0])
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", FLOAT, self.shape)], [last], self.stored
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def assert_holds(model: ModelProto, sizes: Sequence[Mapping[str, int]], *, all_run: bool = False) -> Symbols:
    """Run the model at each of `sizes` and compare every shape and value that `symbolic` tells; runs that
    onnxruntime refuses say nothing."""
    symbols = symbolic(model)
    constants = constant_values(symbols)
    for some in sizes:
        image = model.graph.input[0]
        shape = tuple(d.dim_value or some[d.dim_param] for d in image.type.tensor_type.shape.dim)
        feeds = {image.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
        inner = {name for node in model.graph.node for name in node.output} & set(symbols.values)
        try:
            facts, values = probe(model, feeds, values=sorted(inner))
        except RuntimeFailure:
            assert not all_run
            continue
        for name, told in symbols.shapes.items():
            for told_size, size in zip(told, facts[name].shape, strict=True):
                assert agrees(told_size, size, some), (name, str(told_size), facts[name].shape, some)
        for name, value in values.items():
            assert symbols.dtypes[name] == value.dtype, name
            for told_item, item in zip(symbols.values[name].flat, value.flat, strict=True):
                assert agrees(told_item, int(item), some), (name, str(told_item), value, some)
            if name in constants:
                assert constants[name].dtype == value.dtype
                np.testing.assert_array_equal(constants[name], value)
    return symbols


def agrees(told: Dimension, found: int, sizes: Mapping[str, int]) -> bool:
    """Whether a dimension has this value at these sizes, as far as it is known."""
    try:
        return told.evaluate(sizes) == found
    except ValueError:
        return told.constant is None and told.bounds()[0] <= found <= told.bounds()[1]


def is_known(told: Dimension, names: Sequence[str] = ("N", "H", "W")) -> bool:
    """Whether the sizes of the axes tell the dimension."""
    try:
        told.evaluate(dict.fromkeys(names, 64))
    except ValueError:
        return False
    return True


NEVER: dict[str, Callable[[Graph, str], str]] = {
    "min": lambda g, n: g.add("Min", n, g.const([2])),
    "max": lambda g, n: g.add("Max", n, g.const([2])),
    "clip": lambda g, n: g.add("Clip", n, g.const(1), g.const(2)),
    "div": lambda g, n: g.add("Div", n, g.const([1000])),
    "square": lambda g, n: g.add("Mul", n, n),
    "mod": lambda g, n: g.add("Mod", n, g.const([2])),
    "where": lambda g, n: g.add("Where", g.add("Greater", n, g.const([2])), g.const([5]), g.const([6])),
    "where not empty": lambda g, n: g.add("Where", g.add("Equal", n, g.const([0])), g.const([5]), g.const([6])),
    "bool": lambda g, n: g.add("Cast", n, to=TensorProto.BOOL),
    "byte": lambda g, n: g.add("Cast", g.add("Mul", n, g.const([256])), to=TensorProto.UINT8),
    "float min": lambda g, n: g.add(
        "Cast", g.add("Min", g.add("Cast", n, to=FLOAT), g.const([2], np.float32)), to=INT64
    ),
    "slice": lambda g, n: g.add("Shape", g.add("Slice", "x", g.const([0]), g.const([2]), g.const([0]))),
    "reduced": lambda g, n: g.add("ReduceMin", g.add("Concat", n, g.const([2]), axis=0), keepdims=1),
    "range": lambda g, n: g.add(
        "Shape", g.add("Range", g.const(0), g.add("Squeeze", g.add("Min", n, g.const([3]))), g.const(1))
    ),
    "data": lambda g, n: g.add("Shape", g.add("NonZero", "x")),
    "signs": lambda g, n: g.add("Cast", g.add("Gather", g.add("Flatten", "x"), n), to=INT64),
}


@pytest.mark.parametrize("case", NEVER)
def test_what_depends_on_the_batch_is_never_told_to_be_constant(case: str) -> None:
    g = Graph(["N", 3])
    result = NEVER[case](g, g.size(0))
    symbols = assert_holds(g.model(), [{"N": n} for n in (0, 1, 2, 3, 5, 1001)])
    assert result not in constant_values(symbols)


ALWAYS: dict[str, tuple[Callable[[Graph, str], str], int]] = {
    "difference": (lambda g, n: g.add("Sub", n, n), 0),
    "other axis": (lambda g, n: g.size(1), 6),
    "negative index": (lambda g, n: g.add("Gather", g.add("Shape", "x"), g.const([-1])), 6),
    "shape range": (lambda g, n: g.add("Shape", "x", start=1), 6),
    "even": (lambda g, n: g.add("Mod", g.add("Mul", n, g.const([4])), g.const([2])), 0),
    "odd": (lambda g, n: g.add("Mod", g.add("Add", g.add("Add", n, n), g.const([1])), g.const([2])), 1),
    "ratio": (lambda g, n: g.add("Div", g.add("Size", "x"), n), 6),
    "at least one": (lambda g, n: g.add("Max", g.add("Min", n, g.const([0])), g.const([3])), 3),
    "not negative": (lambda g, n: g.add("Where", g.add("Less", n, g.const([0])), n, g.const([7])), 7),
    "rest": (lambda g, n: g.add("Shape", g.add("Reshape", "x", g.add("Concat", n, g.const([-1]), axis=0)), start=1), 6),
    "flat": (lambda g, n: g.add("Shape", g.add("Flatten", "x"), start=-1), 6),
    "rank": (lambda g, n: g.add("Size", g.add("Shape", "x")), 2),
    "float": (
        lambda g, n: g.add(
            "Cast",
            g.add("Floor", g.add("Mul", g.add("Cast", g.size(1), to=FLOAT), g.const([0.4], np.float32))),
            to=TensorProto.INT32,
        ),
        2,
    ),
}


@pytest.mark.parametrize("case", ALWAYS)
def test_what_no_batch_changes_is_told(case: str) -> None:
    build, expected = ALWAYS[case]
    g = Graph(["N", 6])
    result = build(g, g.size(0))
    symbols = assert_holds(g.model(), [{"N": n} for n in (1, 2, 3, 5)], all_run=True)
    assert constant_values(symbols)[result].reshape(-1).tolist() == [expected]


@st.composite
def arithmetic(draw: st.DrawFn) -> ModelProto:
    """Random arithmetic on the sizes of x [N, H, 6]: vectors, whose lengths are kept."""
    g = Graph(["N", "H", 6], opset=draw(st.sampled_from([13, 17, 20])))
    pool: list[tuple[str, int]] = [(g.add("Shape", "x"), 3), (g.size(0), 1), (g.size(1), 1)]
    number, length = st.integers(-4, 7), st.integers(1, 4)
    for _ in range(draw(st.integers(2, 9))):
        name, n = draw(st.sampled_from(pool))
        other, m = draw(st.sampled_from(pool))
        other, m = (other, m) if m in (1, n) else (g.const([draw(number)]), 1)
        op = draw(st.sampled_from(ARITHMETIC))
        if op in ("Add", "Sub", "Mul", "Min", "Max"):
            pool.append((g.add(op, name, other), n))
        elif op in ("Div", "Mod"):
            by = draw(number.filter(bool)) if op == "Div" else draw(st.integers(1, 7))
            pool.append((g.add(op, name, g.const([by])), n))
            if op == "Div" and draw(st.booleans()):
                positive = g.add("Max", g.add("Abs", other), g.const([1]))
                pool.append((g.add("Div", name, positive), n))
        elif op == "Clip":
            pool.append((g.add(op, name, g.const(draw(number)), g.const(8)), n))
        elif op in ("Neg", "Abs"):
            pool.append((g.add(op, name), n))
        elif op == "Cast":
            kind = draw(st.sampled_from([TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT8]))
            pool.append((g.add(op, g.add(op, name, to=kind), to=INT64), n))
        elif op in ("Where", "Logic"):
            compare = [g.add(c, name, other) for c in ("Less", "Equal", "GreaterOrEqual")]
            joint = g.add(draw(st.sampled_from(["And", "Or"])), draw(st.sampled_from(compare)), compare[0])
            mask = g.add("Not", joint) if draw(st.booleans()) else joint
            pool.append((g.add("Where", mask, name, other), n) if op == "Where" else (g.add("Cast", mask, to=INT64), n))
        elif op == "Concat" and n + m < 12:
            pool.append((g.add(op, name, other, axis=draw(st.sampled_from([0, -1]))), n + m))
        elif op == "Gather":
            index = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=4))
            pool.append((g.add(op, name, g.const(index)), len(index)))
        elif op == "Slice":
            step = draw(st.sampled_from([1, 2, -1, -2]))
            start, end = draw(st.sampled_from([0, 1, -1, -2, BIG])), draw(st.sampled_from([1, 2, -1, BIG, -BIG]))
            cut = g.add(op, name, *(g.const([v]) for v in (start, end, 0, step)))
            g.add("Concat", cut, g.const([1]), axis=0)
        elif op == "Reduce":
            kind = draw(st.sampled_from(["ReduceMax", "ReduceMin", "ReduceProd"]))
            pool.append((g.add(kind, name, keepdims=1), 1))
        elif op == "Fold" and n % 2 == 0:
            square = g.add("Transpose", g.add("Reshape", name, g.const([2, -1])), perm=[1, 0])
            total = g.add("ReduceSum", square, g.const([draw(st.integers(-2, 1))]), keepdims=1)
            g.add("Squeeze", total)
            pool.append((g.add("Reshape", square, g.const([-1])), n))
        elif op in ("Expand", "Tile"):
            times = draw(length)
            if op == "Tile" or n == 1:
                pool.append((g.add(op, name, g.const([times])), n * times))
        elif op == "Split" and n > 1:
            parts = g.add(op, name, g.const([1, n - 1]), outputs=2, axis=0)
            pool += [(parts[0], 1), (parts[1], n - 1)]
        elif op == "Fill":
            value = numpy_helper.from_array(np.array([draw(number)]))
            times = draw(length)
            pool.append((g.add("ConstantOfShape", g.const([times]), value=value), times))
    pool = [item for item in pool if item[1] <= 12]
    return g.model()


@settings(max_examples=60, deadline=None)
@given(arithmetic())
def test_arithmetic_of_sizes_is_followed_exactly(model: ModelProto) -> None:
    sizes = [{"N": 1, "H": 1}, {"N": 2, "H": 3}, {"N": 7, "H": 2}, {"N": 0, "H": 5}, {"N": 300, "H": 4}]
    assert_holds(model, sizes, all_run=True)


@st.composite
def images(draw: st.DrawFn) -> ModelProto:
    """A random chain of image operators on x [N, 4, H, W]."""
    g = Graph(["N", 4, "H", "W"], opset=19)
    last, small = "x", st.integers(1, 3)
    for _ in range(draw(st.integers(1, 5))):
        op = draw(st.sampled_from(IMAGES))
        window: dict[str, Any] = {"strides": [draw(small), draw(small)]}
        kernel = [draw(small), draw(small)]
        if draw(st.booleans()):
            window["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        else:
            window["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        if op == "Conv":
            weight = g.const(np.ones((4, 4, *kernel)), np.float32)
            last = g.add(op, last, weight, dilations=[draw(small), draw(small)], **window)
        elif op in ("MaxPool", "AveragePool"):
            rounding = {"ceil_mode": draw(st.integers(0, 1))} if "pads" in window else {}
            spread = [draw(small), draw(small)]
            last = g.add(op, last, kernel_shape=kernel, dilations=spread, **rounding, **window)
        elif op == "ConvTranspose":
            weight = g.const(np.ones((4, 2, *kernel)), np.float32)
            last = g.add(op, last, weight, group=2, **window)
        elif op == "Slice":
            step = draw(st.sampled_from([1, 2, -1]))
            start, end = draw(st.sampled_from([0, 1, -2, -1])), draw(st.sampled_from([2, -1, BIG, -BIG]))
            last = g.add(op, last, *(g.const([v]) for v in (start, end, draw(st.sampled_from([2, -1])), step)))
        elif op == "Pad":
            last = g.add(op, last, g.const([0, 0, 1, 0, 0, 0, draw(small) - 1, 2]))
        elif op == "Resize":
            scales = g.const([1, 1, draw(st.sampled_from([2, 0.5, 1.3, 0.75])), 2], np.float32)
            last = g.add(op, last, "", scales, mode="nearest")
        elif op == "Sizes":
            shape = g.add("Shape", last)
            double = g.add("Mul", g.add("Slice", shape, g.const([2]), g.const([4])), g.const([2, 3]))
            sizes = g.add("Concat", g.add("Slice", shape, g.const([0]), g.const([2])), double, axis=0)
            last = g.add("Resize", last, "", "", sizes, mode="nearest")
        elif op == "Reshape":
            shape = g.add("Shape", last)
            first, space = (g.add("Slice", shape, g.const([a]), g.const([b])) for a, b in ((0, 1), (2, 4)))
            grouped = g.add(op, last, g.add("Concat", first, g.const([2, -1]), space, axis=0))
            last = g.add(op, g.add("Transpose", grouped, perm=[0, 2, 1, 3, 4]), shape)
        elif op == "Transpose":
            last = g.add(op, last, perm=[0, 1, 3, 2])
        elif op == "Merge":
            both = g.add("Concat", last, g.add("Add", last, last), axis=1)
            last = g.add("Slice", both, g.const([2]), g.const([6]), g.const([1]))
        elif op == "Split":
            halves = g.add(op, last, outputs=2, axis=1, num_outputs=2)
            last = g.add("Concat", *halves[::-1], axis=1)
        elif op == "Blocks":
            last = g.add("Tile", g.add("DepthToSpace", last, blocksize=2), g.const([1, 4, 1, 1]))
        elif op in ("Mean", "Global"):
            pooled = g.add("ReduceMean", last, g.const([2, 3])) if op == "Mean" else g.add("GlobalMaxPool", last)
            last = g.add("Mul", last, pooled)
        else:
            bias = g.const(np.ones((1, 4, 1, 1)), np.float32)
            last = g.add("Add", last, g.add("Expand", bias, g.add("Shape", last)))
    return g.model()


@settings(max_examples=60, deadline=None)
@given(images())
def test_shapes_of_images_of_any_size_are_followed_exactly(model: ModelProto) -> None:
    sizes = [(1, 1, 1), (2, 7, 12), (1, 16, 5), (3, 2, 3), (2, 33, 8)]
    assert_holds(model, [dict(zip("NHW", size, strict=True)) for size in sizes])


@pytest.mark.parametrize(
    ("network", "variant"),
    [
        ("reactnet-tiny", "dynamo"),
        ("reactnet-tiny", "torchscript-unfolded"),
        ("binary-shufflenet", "dynamo-unoptimized"),
        ("binary-shufflenet", "torchscript-unfolded"),
    ],
)
def test_every_shape_of_an_exported_network_is_told(network: str, variant: str, tmp_path: Path) -> None:
    models = pytest.importorskip("models")
    file = models.export(models.build(network), tmp_path / "m.onnx", models.VARIANTS[variant])
    model = onnx.load(str(file))
    symbols = assert_holds(model, [{"N": n} for n in (1, 2, 3)], all_run=True)
    outputs = [name for node in model.graph.node for name in node.output if name]
    sequences = {node.output[0] for node in model.graph.node if node.op_type == "SplitToSequence"}
    assert {name for name in outputs if name not in symbols.shapes} == sequences
    assert all(is_known(size, "N") for name in set(outputs) - sequences for size in symbols.shapes[name])


@pytest.mark.parametrize("file", sorted((Path(__file__).parent / "golden").glob("*.onnx")), ids=lambda f: f.stem)
def test_every_shape_of_the_worked_examples_is_told(file: Path) -> None:
    model = onnx.load(str(file))
    symbols = assert_holds(model, [{"N": n} for n in (1, 4)], all_run=True)
    outputs = [name for node in model.graph.node for name in node.output if name]
    assert all(is_known(size, "N") for name in outputs for size in symbols.shapes[name])
    for node in model.graph.node:
        if node.op_type in ("Reshape", "Expand"):
            assert all(is_known(item, "N") for item in symbols.values[node.input[1]].flat)
