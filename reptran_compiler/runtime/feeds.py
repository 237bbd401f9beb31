"""What models are fed with: random inputs, never degenerate, and points that tell binarisations apart."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from reptran_compiler.runtime.memory import too_large

Array = NDArray[Any]

#: How many numbers are drawn for one array at most.
_DRAWN = 100_003


class CannotFeed(Exception):
    """No array can be drawn for a graph input: an axis of unknown size, or a type without numbers."""


@dataclass(frozen=True)
class InputSpec:
    """A graph input that has to be fed.

    Attributes:
        name: its name.
        dtype: its numpy dtype.
        shape: one entry an axis: a size, the name of a symbolic axis, or None where nothing is known.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first axis has no fixed size."""
        return bool(self.shape) and not isinstance(self.shape[0], int)


def input_specs(model: ModelProto) -> list[InputSpec]:
    """The graph inputs that need a feed, in the graph's order (inputs with a default from an initializer do
    not).

    Raises:
        CannotFeed: an input is no tensor, or its rank is unknown.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    specs = []
    for value in model.graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type == TensorProto.UNDEFINED:
            raise CannotFeed(f"graph input {value.name!r} is not a tensor of a known type")
        if not kind.HasField("shape"):
            raise CannotFeed(f"the number of axes of graph input {value.name!r} is unknown")
        shape = tuple(
            axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None) for axis in kind.shape.dim
        )
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        specs.append(InputSpec(value.name, dtype, shape))
    return specs


def has_dynamic_batch(model: ModelProto) -> bool:
    """Whether the first axis of some graph input has no fixed size."""
    return any(spec.dynamic_batch for spec in input_specs(model))


def batch_sizes(model: ModelProto, wanted: Sequence[int] | None = None) -> tuple[int, ...]:
    """The batch sizes to run a model with: those wanted (2 and 3 if absent), or the one that is fixed."""
    specs = input_specs(model)
    if not specs or any(spec.dynamic_batch for spec in specs):
        return tuple(wanted or (2, 3)) if specs else (1,)
    first = specs[0].shape[:1]
    return (first[0] if first and isinstance(first[0], int) else 1,)


def random_feeds(
    model: ModelProto,
    *,
    batch: int | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Random arrays for a model's graph inputs.

    The numbers depend on the seed, the input's name and its shape only. Floats are standard normal; unsigned
    integers of 8 bits run from 0 to 255, other integers from 0 to 3; booleans are fair, and a single one is true
    for every other seed, so that two seeds in a row take both branches of an `If`.

    Args:
        model: the model.
        batch: the size of a first axis that is not fixed (1 when absent).
        dims: sizes of other symbolic axes, by the axis' name, or by `"INPUT:AXIS"` where it has none.
        seed: any integer.

    Raises:
        CannotFeed: a symbolic axis has no size, an input's type holds no numbers, or an input would fill the memory.
    """
    feeds = {}
    for spec, shape in _sized(model, batch, dims):
        feeds[spec.name] = random_array(shape, spec.dtype, generator(seed, spec.name))
        if spec.dtype == np.bool_ and feeds[spec.name].size == 1:
            feeds[spec.name][...] = seed % 2
    return feeds


def blank_feeds(
    model: ModelProto, *, batch: int | None = None, dims: Mapping[str, int] | None = None
) -> dict[str, Array]:
    """As `random_feeds`, with a zero that takes no memory in the place of every number: for shapes and types."""
    feeds = {}
    for spec, shape in _sized(model, batch, dims):
        if not _has_numbers(spec.dtype):
            raise _numberless(spec.dtype)
        feeds[spec.name] = np.broadcast_to(np.zeros((), spec.dtype), shape)
    return feeds


def _sized(
    model: ModelProto, batch: int | None, dims: Mapping[str, int] | None
) -> Iterator[tuple[InputSpec, tuple[int, ...]]]:
    """The graph inputs that need a feed, each with its shape for some sizes of the dynamic axes."""
    sizes: dict[str, int] = dict(dims or {})
    specs = input_specs(model)
    for spec in specs:
        if spec.dynamic_batch and isinstance(spec.shape[0], str):
            sizes.setdefault(spec.shape[0], 1 if batch is None else batch)
    for spec in specs:
        shape = []
        for axis, size in enumerate(spec.shape):
            if isinstance(size, int):
                shape.append(size)
            elif size in sizes:
                shape.append(sizes[str(size)])
            elif f"{spec.name}:{axis}" in sizes:
                shape.append(sizes[f"{spec.name}:{axis}"])
            elif axis == 0:
                shape.append(1 if batch is None else batch)
            else:
                label = f"{size!r} (axis {axis})" if size else str(axis)
                raise CannotFeed(f"axis {label} of graph input {spec.name!r} has no fixed size: give one")
        if min(shape, default=0) < 0:
            raise CannotFeed(f"graph input {spec.name!r} has a negative size: {shape}")
        if large := too_large(shape, spec.dtype):
            raise CannotFeed(f"graph input {spec.name!r} {large}")
        yield spec, tuple(shape)


def generator(seed: int, name: str) -> np.random.Generator:
    """The random generator that belongs to a seed and a name; equal on every run and machine."""
    return np.random.default_rng([seed & 0xFFFFFFFF, zlib.crc32(name.encode())])


def random_array(shape: tuple[int, ...], dtype: Any, random: np.random.Generator) -> Array:
    """An array of the given shape and dtype, with the distributions of `random_feeds`.

    Raises:
        CannotFeed: the type holds no numbers.
    """
    kind = np.dtype(dtype)
    if kind == np.bool_:
        return random.integers(0, 2, shape).astype(np.bool_)
    if kind == np.uint8:
        return random.integers(0, 256, shape).astype(np.uint8)
    if kind.kind in "iu":
        return random.integers(0, 4, shape).astype(kind)
    if is_float(kind):
        return _recurring(shape, lambda count: random.standard_normal(count, dtype=np.float32).astype(kind, copy=False))
    raise _numberless(kind)


def _has_numbers(kind: np.dtype[Any]) -> bool:
    """Whether `random_array` draws values of a type."""
    return kind == np.bool_ or kind.kind in "iu" or is_float(kind)


def _numberless(kind: np.dtype[Any]) -> CannotFeed:
    return CannotFeed(f"no random values of type {'string' if kind.hasobject else kind}")


def random_signs(shape: tuple[int, ...], dtype: Any, random: np.random.Generator) -> Array:
    """An array of fair +1 and -1."""
    return _recurring(shape, lambda count: (random.integers(0, 2, count, dtype=np.int8) * 2 - 1).astype(dtype))


def _recurring(shape: tuple[int, ...], make: Callable[[int], Array]) -> Array:
    """An array of drawn numbers; those of a large one recur, as many apart as a prime: neighbours along no axis do."""
    count = math.prod(shape)
    drawn = make(min(count, _DRAWN))
    return drawn.reshape(shape) if count <= _DRAWN else np.resize(drawn, shape)


def is_float(dtype: Any) -> bool:
    """Whether a dtype is a floating type, bfloat16 and the eight-bit ones included."""
    kind = np.dtype(dtype)
    return bool(kind.kind == "f" or kind.name.startswith(("bfloat", "float")))


def special_points(dtype: Any, *, random_points: int = 40, seed: int = 0) -> Array:
    """Where two binarisations can differ: zeros of both signs, denormals, normals, +-1, infinities, random
    values.

    Args:
        dtype: a floating dtype.
        random_points: how many random values follow: half of them standard normal, half of every magnitude.
        seed: of the random values.

    Returns:
        A one-dimensional array of `dtype`; the random values are its last `random_points` entries.
    """
    kind = np.dtype(dtype)
    limits = _finfo(kind)
    tiny, smallest, largest, step = limits
    fixed = [0.0, tiny, smallest, step, 0.5, 1.0, 1.0 + step, 2.0, largest, np.inf]
    values = [sign * value for value in fixed for sign in (1.0, -1.0)]
    random = generator(seed, "special points")
    normal = random.standard_normal(random_points - random_points // 2)
    wide = random.standard_normal(random_points // 2) * 10.0 ** random.uniform(-4, 2, random_points // 2)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([values, normal, wide]).astype(kind)


def _finfo(kind: np.dtype[Any]) -> tuple[float, float, float, float]:
    """The smallest denormal and normal, the largest finite number, and the step at 1 of a floating type."""
    if kind.kind == "f":
        info = np.finfo(kind)
        return float(info.smallest_subnormal), float(info.tiny), float(info.max), float(info.eps)
    if kind.name == "bfloat16":
        return 2.0**-133, 2.0**-126, (2 - 2.0**-7) * 2.0**127, 2.0**-7
    raise CannotFeed(f"{kind} has no special points")
