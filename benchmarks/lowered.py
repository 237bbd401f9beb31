"""Every network of the zoo and of other toolchains, lowered in every way: it computes what it did.

    python -m benchmarks.lowered [--networks A,B] [--betas 1,2] [--jobs N] [--resume FILE] [-o FILE]

Each network is lowered by `--optimize float`, `int8` and `auto`, with and without `--weights packed`, and judged as a
compilation judges it: all tensors that both forms share, between cuts, sums of signs to the bit.  Beside the judge,
every binary layer is cut out of the unlowered, the float and the integer form, and run on the same random signs, 8
times: the three sums have to be equal to the bit.  It ends with 1 where anything differs."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto

import models
from benchmarks.journal import Journal
from benchmarks.latency import source_of
from models.toolchains.fixtures import fixtures
from reptran_compiler import compile_model
from reptran_compiler.lowering import lower
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.rewriting import known_rules
from reptran_compiler.runtime import TensorFact, random_feeds, run, tensor_facts
from reptran_compiler.transformation import Options, Transformation
from reptran_compiler.verification import check_lowered
from reptran_compiler.verification.protograph import ProtoGraph

WAYS = ("float", "int8", "auto")
#: A graph, and the shapes of its tensors.
Known = tuple[ProtoGraph, Mapping[str, TensorFact]]
#: How often each binary layer is run.
INPUTS = 8
_LAYERS = ("Conv", "ConvInteger", "MatMulInteger")
#: Operators that move signs on their way to a layer.
_MOVES = frozenset(("Concat", "Expand", "Identity", "Pad", "Reshape", "Tile", "Transpose"))


@dataclass(frozen=True)
class Row:
    """A network at one beta, in all forms.

    Attributes:
        network: a name of the zoo, or TOOLCHAIN/NAME.
        beta: the replication factor.
        compared, required: pairs of tensors, of all forms together.
        worst: the largest difference among those that agree, of its tensor's largest value.
        layers: binary layers.
        integer: those of them that `int8` computes in integers.
        equal: those whose sums are equal to the bit in all forms, on all inputs.
        seconds: how long it took.
        failure: what is not as it has to be; "" where everything is.
    """

    network: str
    beta: int
    compared: int = 0
    required: int = 0
    worst: float = 0.0
    layers: int = 0
    integer: int = 0
    equal: int = 0
    seconds: float = 0.0
    failure: str = ""


def perform(network: str, beta: int) -> Row:
    """Lower a network in every way, and judge each form."""
    torch.set_num_threads(1)
    start, row = time.perf_counter(), Row(network, beta)
    try:
        source = source_of(network, None if "/" in network else models.ZOO[network].size)
        made = compile_model(source, beta, optimize="float", verify=False).transformation
        assert made is not None, "something is lowered"
        row = _judged(row, made)
    except Exception as error:  # noqa: BLE001 - a refusal or a bug is a failing row, and the other rows go on
        row = replace(row, failure=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return replace(row, seconds=time.perf_counter() - start)


def run_apart(network: str, beta: int) -> Row:
    """`perform` in a process of its own, so that no network leaves memory behind or takes the others with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(perform, network, beta).result()
        except BrokenProcessPool:
            return Row(network, beta, failure="its process died")


def _judged(row: Row, made: Transformation) -> Row:
    forms, failures, rules = {}, [], known_rules(())
    for way in WAYS:
        for weights in ("binary", "packed"):
            form = lower(made.result, Options(beta=row.beta, optimize=way, weights=weights), rules)
            report = check_lowered(made.result, form.model)
            forms[way] = form
            failures += [f"{way}, {weights}: {failure}" for failure in report.failures[:1]]
            row = replace(
                row,
                compared=row.compared + report.coverage.compared,
                required=row.required + report.coverage.required,
                worst=max(row.worst, report.worst.relative),
            )
    binary = [layer.name for layer in made.layers if layer.binary]
    unequal = list(different_sums(made.result, [forms["float"].model, forms["int8"].model], binary))
    failures += [f"the sums of {name} {words}" for name, words in unequal]
    integer = len(forms["int8"].integer.intersection(binary))
    found = replace(row, layers=len(binary), integer=integer, equal=len(binary) - len(unequal))
    return replace(found, failure="; ".join(failures[:3]))


def different_sums(result: ModelProto, forms: Sequence[ModelProto], layers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The binary layers whose sums are not those of the result, in some form, and why.

    Args:
        result: the network.
        forms: lowered forms of it.
        layers: the node names of its binary layers.
    """
    feeds = random_feeds(result, batch=1)
    graphs = [(ProtoGraph(model), tensor_facts(model, feeds)) for model in (result, *forms)]
    graph, facts = graphs[0]
    named = {node.name: node for node in graph.nodes}
    for number, name in enumerate(layers):
        sums = _sums(graphs, named[name].outputs[0])
        signs, axes = next(_signs(graphs, named[name].inputs), ("", None))
        if not sums or not signs:
            yield name, "cannot be told apart in every form"
            continue
        given = {signs: onnx.helper.make_tensor_value_info(signs, onnx.TensorProto.FLOAT, None)}
        parts = [each.subgraph([sums], given) for each, _ in graphs]
        turned = [axes is not None and _in_place(part) for part in parts]
        random = np.random.default_rng(number)
        for _ in range(INPUTS):
            drawn = random.choice(np.array([-1, 1], np.float32), facts[signs].shape)
            made = [
                run(part, {signs: drawn.transpose(axes) if other else drawn}, [sums])[sums]
                for part, other in zip(parts, turned, strict=True)
            ]
            if not all(np.array_equal(made[0], each) for each in made[1:]):
                yield name, "differ"
                break


def _in_place(part: ModelProto) -> bool:
    """Whether a form binarises in the layout that its layer reads: nothing turns the signs on their way, but for the
    layer itself, where it is a product, in front of its codes."""
    nodes = part.graph.node
    coded = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    way = itertools.takewhile(lambda node: node.op_type not in _LAYERS, nodes)
    return all(node.op_type != "Transpose" or node.output[0] in coded for node in way)


def _sums(graphs: Sequence[Known], name: str) -> str:
    """A layer's sums, or what first is made of them under a name that all forms have; "" where nothing is."""
    graph, facts = graphs[0]
    while not all(name in each.maker and known[name].shape == facts[name].shape for each, known in graphs):
        readers = {node.index: node for node in graph.readers.get(name, ())}
        if len(readers) != 1:
            return ""
        name = next(iter(readers.values())).outputs[0]
    return name


def _signs(graphs: Sequence[Known], inputs: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """What a layer reads, or what that is moved from, where all forms have it: as it is, or with its axes in the order
    that a Transpose behind it gives them."""
    graph, facts = graphs[0]
    pending: list[tuple[str, tuple[int, ...] | None]] = [(name, None) for name in inputs]
    while pending:
        name, axes = pending.pop()
        if name not in graph.maker or name in graph.constants:
            continue
        here = facts[name].shape
        shapes = {here} if axes is None else {here, tuple(here[axis] for axis in axes)}
        if all(name in each.maker and known[name].shape in shapes for each, known in graphs):
            yield name, axes
        node = graph.maker[name]
        if node.op in _MOVES:
            axes = tuple(node.attribute("perm")) if node.op == "Transpose" else axes
            pending += [(each, axes) for each in node.inputs]


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown."""
    failed = sum(bool(row.failure) for row in rows)
    told = f"{len(rows)} rows, a network at one beta each, {failed} fail."
    lines = ["# Lowered networks", "", f"{told} Made by `{command}`.", ""]
    lines += [
        f"Each is lowered by `--optimize` {', '.join(WAYS)}, with and without `--weights packed`: six forms.",
        "*pairs*: tensors of the lowered forms that were compared with the unlowered one, of those that have to be.",
        "*worst*: the largest difference, of a tensor's largest value. *equal sums*: binary layers whose sums are",
        f"equal to the bit in the unlowered, the float and the integer form, on {INPUTS} of {INPUTS} random inputs;",
        "*in integers*: those of them that `int8` computes so.",
        "",
        "| network | beta | pairs | worst | binary layers | in integers | equal sums | seconds | result |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.network, str(row.beta), f"{row.compared}/{row.required}", f"{row.worst:.1e}", str(row.layers)]
        cells += [str(row.integer), str(row.equal), f"{row.seconds:.1f}", row.failure.replace("|", "/") or "ok"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 1 where a row fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lowered", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="", metavar="A,B", help="of the zoo, or TOOLCHAIN/NAME (default: all)")
    parser.add_argument("--betas", default="1,2", metavar="B,C", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time (default: 1)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep rows in FILE, and go on from there")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the table goes (default: stdout)")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    networks = options.networks.split(",") if options.networks else [*models.ZOO, *fixtures()]
    tasks = [(network, int(beta)) for network in networks for beta in options.betas.split(",")]
    journal: Journal[tuple[str, int], Row] = Journal(options.resume)
    waiting = [task for task in tasks if task not in journal.rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        for task, row in zip(waiting, pool.map(lambda task: run_apart(*task), waiting), strict=True):
            journal.add(task, row)
            print(
                f"{row.network} beta {row.beta}: {row.seconds:.1f} s, {row.failure or 'ok'}",
                file=sys.stderr,
                flush=True,
            )
    rows = [journal.rows[task] for task in tasks]
    text = table(rows, " ".join(["python -m benchmarks.lowered", *given]))
    if options.output is None:
        print(text)
    else:
        write_bytes(text.encode(), options.output)
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
