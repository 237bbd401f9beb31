"""Large computed weights in blocks of rows are those of onnxruntime, to the bit, or are computed whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from reptran_compiler.model.convert import import_model
from reptran_compiler.rewriting import facts, rows
from reptran_compiler.rewriting.facts import Facts
from reptran_compiler.runtime import RuntimeFailure, run

Array = NDArray[Any]

_UNARY = ("Abs", "Neg", "Sign", "Sqrt", "Identity")
_BINARY = ("Add", "Sub", "Mul", "Div")
_REDUCES = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, -1e-42, 1.0, -1.0], np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of a few thousand numbers come in several blocks."""
    monkeypatch.setattr(facts, "_LARGE", 1)
    monkeypatch.setattr(rows, "_BLOCK", 1 << 12)


@dataclass
class Weights:
    """A graph that computes the tensor "w" from stored ones."""

    nodes: list[NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)

    def store(self, values: Any) -> str:
        """A stored tensor; its name."""
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(values)
        return name

    def make(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A computed tensor; its name."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def model(self, opset: int = 13) -> ModelProto:
        """The model; the last tensor is called "w"."""
        same = helper.make_node("Identity", [self.nodes[-1].output[0]], ["w"])
        graph = helper.make_graph(
            [*self.nodes, same],
            "weights",
            [],
            [ValueInfoProto(name="w")],
            [numpy_helper.from_array(values, name) for name, values in self.stored.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def blockwise(model: ModelProto) -> tuple[Array, bool]:
    """The tensor in blocks of rows, and whether it was computed so."""
    graph = import_model(model)
    known = Facts(graph, [{}])
    (tensor,) = graph.outputs
    found = np.concatenate(list(known.rows(tensor)))
    return found, id(tensor) not in known._values


def same(one: Array, other: Array) -> bool:
    """Whether two arrays are equal to the bit, but for which number a NaN is."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    bits = np.array_equal(np.signbit(one[~np.isnan(one)]), np.signbit(other[~np.isnan(other)]))
    return bits and np.array_equal(one, other, equal_nan=True)


@st.composite
def weights(draw: st.DrawFn) -> ModelProto:
    """Weights that are computed by operators of all kinds, those among them that no row is computed with alone."""
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    count = draw(st.sampled_from([64, 65, 128, 129, 193]))
    rest = draw(st.sampled_from([(1,), (3, 3), (40, 3, 3), (130,), (count,), (8, 1, 5)]))
    shape = (count, *rest)
    special = draw(st.booleans())
    made = Weights()

    def stored(form: tuple[int, ...]) -> str:
        values = random.normal(size=form).astype(np.float32)
        if special:
            values.reshape(-1)[:: max(1, values.size // 9)] = random.choice(_SPECIAL)
        return made.store(values)

    known = [stored(shape), stored(shape)]
    axes = st.lists(
        st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=2, unique_by=lambda a: a % len(shape)
    )
    for _ in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(known))
        other = draw(
            st.sampled_from(known)
            | st.sampled_from([(), (1,), shape[1:], shape[-1:], (1, *shape[1:]), (count, *[1] * len(rest))]).map(stored)
        )
        kind = draw(st.sampled_from("unary binary clip where reduce cast move".split()))
        if kind == "unary":
            known.append(made.make(draw(st.sampled_from(_UNARY)), x))
        elif kind == "binary":
            pair = draw(st.permutations([x, other]))
            known.append(made.make(draw(st.sampled_from(_BINARY)), *pair))
        elif kind == "clip":
            bounds = [made.store(np.float32(value)) for value in draw(st.sampled_from([(-1, 1), (0, 0.5), (-0.0, 1)]))]
            known.append(made.make("Clip", x, *draw(st.sampled_from([bounds, bounds[:1], ["", bounds[1]]]))))
        elif kind == "where":
            mask = made.make(draw(st.sampled_from(["Less", "Greater", "Equal"])), x, other)
            known.append(made.make("Where", mask, *draw(st.permutations([x, other]))))
        elif kind == "reduce":
            op = draw(st.sampled_from(_REDUCES))
            mean = made.make(op, x, axes=draw(axes), keepdims=draw(st.sampled_from([1, 1, 1, 0])))
            known.append(made.make("Sub", x, mean))
        elif kind == "cast":
            to = to_of(draw(st.sampled_from("DOUBLE FLOAT16 INT32 INT64 BOOL".split())))
            one, nine = made.store(np.float32(1)), made.store(np.float32(9))
            some = [made.make("Cast", made.make("Clip", each, one, nine), to=to) for each in (x, other)]
            inner = some[0] if to == TensorProto.BOOL else made.make("Div", *some)
            known.append(made.make("Cast", inner, to=TensorProto.FLOAT))
        elif count == rest[0] and len(rest) == 1:
            known.append(made.make("Transpose", x, perm=[1, 0]))
    if not made.nodes:
        made.make("Identity", known[0])
    return made.model()


def to_of(name: str) -> int:
    """An element type by its name."""
    return int(TensorProto.DataType.Value(name))


@settings(max_examples=400, deadline=None)
@given(weights())
def test_rows_are_those_of_the_whole(model: ModelProto) -> None:
    try:
        want = run(model, {})["w"]
    except RuntimeFailure:  # shapes that do not fit
        return
    if want.ndim and want.size:
        got, _ = blockwise(model)
        assert same(got, want)


def standardised(op: str = "ReduceMean") -> Weights:
    """Weights less the mean of each filter, by the scale of each."""
    made = Weights()
    latent = made.store(np.random.default_rng(0).normal(size=(129, 7, 3, 3)).astype(np.float32))
    mean = made.make(op, latent, axes=[1, 2, -1])
    made.make("Mul", made.make("Sign", made.make("Sub", latent, mean)), mean)
    return made


def test_usual_weights_are_computed_in_rows() -> None:
    """The law above says nothing where all are computed whole."""
    for op in _REDUCES:
        got, by_rows = blockwise(standardised(op).model())
        assert by_rows
        assert same(got, run(standardised(op).model(), {})["w"])


@pytest.mark.parametrize("kind", ["INT32", "FLOAT16", "STRING"])
def test_what_numpy_computes_otherwise_is_computed_whole(kind: str) -> None:
    made = standardised()
    inner = made.make("Cast", made.nodes[-1].output[0], to=to_of(kind))
    made.make("Cast", inner, to=TensorProto.FLOAT)
    got, by_rows = blockwise(made.model())
    assert not by_rows
    assert same(got, run(made.model(), {})["w"])


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 129, 1000])
def test_blocks_are_all_rows_and_none_is_small(count: int) -> None:
    """onnxruntime adds up the terms of a single row in another order."""
    for width in (1, 100, 1 << 20):
        found = list(rows.blocks((count, width)))
        assert [row for block in found for row in range(count)[block]] == list(range(count))
        assert all(block.stop - block.start >= min(count, 64) for block in found)
