"""Running ONNX models: the one place of the compiler that touches onnxruntime.

onnxruntime is imported when the first session is made, its log is silenced, and whatever goes wrong in it
comes out as a `RuntimeFailure` with one clear line.
"""

from __future__ import annotations

import importlib
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from reptran_compiler.errors import OutOfMemory
from reptran_compiler.model.external import store, without_data
from reptran_compiler.model.referred import array_of, as_inputs, referred
from reptran_compiler.model.subgraphs import bodies
from reptran_compiler.runtime.level import Level

Array = NDArray[Any]

#: Models whose initializers hold more bytes than this travel through a temporary file with external data:
#: protobuf refuses to serialise more than 2 GiB.
EMBEDDED_LIMIT = 1_900_000_000

_MESSAGE_LENGTH = 400
#: What onnxruntime says in front of a reason: its own source file and the signature of its function.
_NOISE = re.compile(r"^\[ONNXRuntimeError\] : |/\S*onnxruntime/\S+:\d+ [^()]*\((?:[^()]|\([^()]*\))*\)(?: const)? ")
_NO_MEMORY = re.compile(r"bad_alloc|Failed to allocate memory|bad allocation")
#: How long a model with loops may run: a loop need not end.
LONGEST_LOOPING = 10.0

_LEVELS: Mapping[Level, str] = {
    Level.DISABLE: "ORT_DISABLE_ALL",
    Level.BASIC: "ORT_ENABLE_BASIC",
    Level.EXTENDED: "ORT_ENABLE_EXTENDED",
    Level.LAYOUT: "ORT_ENABLE_LAYOUT",
    Level.ALL: "ORT_ENABLE_ALL",
}


class RuntimeFailure(Exception):
    """onnxruntime could not load or run a model. The message is one line."""


class EndlessLoop(RuntimeFailure):
    """A Loop took longer than any is given."""


class Session:
    """A model loaded into onnxruntime's CPU provider, to be run any number of times.

    Args:
        model: the model; it is not changed. Initializers with external data must have been loaded.
        outputs: names of tensors that `run` shall be able to return besides the graph's outputs. Tensors
            inside the graph, initializers and graph inputs may be named.
        level: how far onnxruntime may rewrite the graph.
        threads: threads within one operator.
        nodes: further nodes that read the model's tensors, run behind the model's own.
        weights: arrays for tensors that the model reads and does not hold. onnxruntime takes them as they lie in
            memory, so that sessions share what would be copied several times into each.

    Raises:
        RuntimeFailure: onnxruntime is not installed or refuses the model.
    """

    def __init__(
        self,
        model: ModelProto,
        *,
        outputs: Sequence[str] = (),
        level: Level = Level.DISABLE,
        threads: int = 1,
        nodes: Sequence[NodeProto] = (),
        weights: Mapping[str, Array] = MappingProxyType({}),
    ) -> None:
        runtime = _onnxruntime()
        graph = model.graph
        # What is referred to is fed: onnxruntime takes it as it lies in its file, without a copy.
        self._fed: dict[str, TensorProto | Array] = {tensor.name: tensor for tensor in referred(model)}
        self.output_names: tuple[str, ...] = tuple(output.name for output in graph.output)
        computed = {name for some in (graph.node, nodes) for node in some for name in node.output if name}
        given = {value.name for value in graph.input}
        stored = {tensor.name: tensor for tensor in graph.initializer}
        self._stored: dict[str, TensorProto] = {}
        self._echoed: set[str] = set()
        extra: list[str] = []
        for name in dict.fromkeys(outputs):
            if name in self.output_names:
                continue
            if name in computed:
                extra.append(name)
            elif name in stored:
                self._stored[name] = stored[name]
            elif name in given:
                self._echoed.add(name)
            else:
                raise RuntimeFailure(f"there is no tensor {name!r} in the graph")
        settings = runtime.SessionOptions()
        settings.log_severity_level = 4
        settings.intra_op_num_threads = max(1, threads)
        settings.inter_op_num_threads = 1
        settings.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, _LEVELS[level])
        # Concatenated protobuf messages merge: this appends to the graph without copying the model first.
        addition = GraphProto(node=nodes, output=[ValueInfoProto(name=name) for name in extra])
        read = {name for node in _all_nodes(model) for name in node.input} if weights else set()
        for name in sorted((read & weights.keys()) - stored.keys() - given - computed):
            self._fed[name] = weights[name]
            kind = element_type(weights[name].dtype)
            addition.input.append(onnx.helper.make_tensor_value_info(name, kind, weights[name].shape))
        if any(isinstance(each, TensorProto) for each in self._fed.values()):
            settings.enable_cpu_mem_arena = settings.enable_mem_pattern = False
        self._loops = any(node.op_type == "Loop" for node in _all_nodes(model))
        self._session: Any = _load(runtime, as_inputs(model), addition, settings)
        self.types: dict[str, str] = {value.name: value.type for value in self._session.get_outputs()}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: an array for every graph input (by name).
            outputs: the tensors to return, from the graph's outputs and those named at construction; all of
                the graph's outputs when absent.

        Returns:
            The arrays by name, in the order asked for.

        Raises:
            RuntimeFailure: a feed is missing or does not fit, or an operator fails.
            EndlessLoop: a loop does not end in time.
            OutOfMemory: there is not enough memory.
        """
        names = list(dict.fromkeys(self.output_names if outputs is None else outputs))
        local = {name for name in names if name in self._stored or name in self._echoed}
        fetched = [name for name in names if name not in local]
        try:
            fed = {name: array_of(t) if isinstance(t, TensorProto) else t for name, t in self._fed.items()}
            arrays = self._fetched(fetched, {**feeds, **fed}) if fetched else []
        except RuntimeFailure:
            raise
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a class per status code, all direct Exceptions
            raise _failure(error) from None
        found = dict(zip(fetched, arrays, strict=True))
        for name in local:
            found[name] = array_of(self._stored[name]) if name in self._stored else feeds[name]
        return {name: found[name] for name in names}

    def _fetched(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        if not self._loops:
            return list(self._session.run(names, feeds))
        options = _onnxruntime().RunOptions()
        timer = threading.Timer(LONGEST_LOOPING, setattr, (options, "terminate", True))
        timer.start()
        try:
            return list(self._session.run(names, feeds, options))
        except Exception:
            if options.terminate:
                raise EndlessLoop(f"a Loop of it did not end in {LONGEST_LOOPING:.0f} s") from None
            raise
        finally:
            timer.cancel()


def run(
    model: ModelProto,
    feeds: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
    *,
    level: Level = Level.DISABLE,
    threads: int = 1,
) -> dict[str, Array]:
    """Run `model` once in onnxruntime on the CPU.

    Args:
        model: the model; it is not changed.
        feeds: an array for every graph input without a default (by name).
        outputs: the tensors to return: graph outputs, or any tensor inside the graph; all graph outputs when
            absent.
        level: how far onnxruntime may rewrite the graph.
        threads: threads within one operator.

    Returns:
        The arrays by name, in the order asked for.

    Raises:
        RuntimeFailure: with one line that says why, when the model does not load or does not run.
    """
    session = Session(model, outputs=outputs or (), level=level, threads=threads)
    return session.run(feeds, outputs)


def element_type(dtype: Any) -> int:
    """The `TensorProto` element type of a numpy dtype.

    Raises:
        RuntimeFailure: ONNX has no such type.
    """
    try:
        return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    except (ValueError, KeyError, TypeError):
        raise RuntimeFailure(f"ONNX has no tensor type for {dtype}") from None


def _onnxruntime() -> Any:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeFailure(f"onnxruntime cannot be imported: {_one_line(error)}") from None
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _load(runtime: Any, model: ModelProto, addition: GraphProto, settings: Any) -> Any:
    """A session on `model` with the nodes and outputs of `addition` behind its own."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise RuntimeFailure(f"the external data of initializer {tensor.name!r} was not loaded")
    suffix = ModelProto(graph=addition).SerializeToString()
    providers = ["CPUExecutionProvider"]
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    try:
        if size <= EMBEDDED_LIMIT:
            return runtime.InferenceSession(model.SerializeToString() + suffix, settings, providers=providers)
        with tempfile.TemporaryDirectory(prefix="reptran-") as folder:
            path, weights = Path(folder, "model.onnx"), Path(folder, "weights.bin")
            with weights.open("wb") as file:
                light = without_data(model, store(model, file), weights.name)
            path.write_bytes(light.SerializeToString() + suffix)
            return runtime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # noqa: BLE001 - as in Session.run
        raise _failure(error) from None


def _all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    """The nodes of a model, of its subgraphs and of its functions."""
    stack = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while stack:
        node = stack.pop()
        yield node
        stack += [inner for body in bodies(node) for inner in body.node]


def _failure(error: Exception) -> Exception:
    """What an exception of onnxruntime comes out as."""
    text = _one_line(error)
    if _NO_MEMORY.search(text):
        return OutOfMemory(f"there is not enough memory to run the model: {text}")
    return RuntimeFailure(text)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = _NOISE.sub("", text)
    return text if len(text) <= _MESSAGE_LENGTH else text[: _MESSAGE_LENGTH - 3] + "..."
