"""How long the networks of the zoo take in onnxruntime: as exported, as Rep networks, and lowered in each way.

    python -m benchmarks.latency [--networks A,B] [--threads 1,2] [--rounds 15] [--size N] [-o FILE] [--plot FILE]

Each network is exported at its paper's image size and compiled in every form, for the processor that it runs on
(`--cpu`); a name that ends in `.onnx` is a file of one's own.  Each form has a process of its own, with a session as
its users have it; a round asks them one after the other, in an order drawn anew, for some runs, and what counts is the
median over the rounds and its ratio to the original's, so that whatever else the machine does meets all forms alike.
It ends with 1 where `auto` is slower than `float` by more than noise.  A plot (`--plot latency.svg`) needs matplotlib,
of the extra `bench`."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

import models
from benchmarks.machine import cpu, machine
from models.toolchains.fixtures import load
from reptran_compiler import compile_model

#: The forms of a network, by name: the replication factor and `--optimize`; None for the file as it was exported.
FORMS: Mapping[str, tuple[int, str] | None] = {
    "original": None,
    "original, float": (1, "float"),
    "original, int8": (1, "int8"),
    "original, auto": (1, "auto"),
    "Rep": (2, "none"),
    "Rep, float": (2, "float"),
    "Rep, int8": (2, "int8"),
    "Rep, auto": (2, "auto"),
}
NETWORKS = ("reactnet-a", "reactnet-18", "bireal-18", "recu-resnet20", "recu-vgg-small", "larq/quicknet")
#: What two medians of the same thing differ by at most, of the larger.
NOISE = 0.05
#: How long a form runs in a round, and the processes rest behind it, in seconds, and how often it runs at least.
_SLICE, _REST, _LEAST = 0.1, 0.01, 4


@dataclass(frozen=True)
class Row:
    """A network with some threads: the median latency of each form, in seconds."""

    network: str
    size: int
    threads: int
    seconds: Mapping[str, float]

    def ratio(self, form: str, to: str = "original") -> float:
        """Of two forms."""
        return self.seconds[form] / self.seconds[to]


def source_of(network: str, size: int | None) -> onnx.ModelProto:
    """A network as its users have it: exported by torch at its paper's image size, or as a toolchain wrote it."""
    if network.endswith(".onnx"):
        return onnx.load(network)
    if "/" in network:
        return load(network).model
    entry = models.ZOO[network]
    with tempfile.TemporaryDirectory(prefix="reptran-latency-") as folder:
        file = Path(folder, "network.onnx")
        built = models.build(network, size=size or entry.paper_size, classes=entry.classes)
        models.export(built, file, models.VARIANTS["torchscript"])
        return onnx.load(str(file))


def forms_of(source: onnx.ModelProto) -> dict[str, bytes]:
    """Each form as a file. They are not verified here: `tests/test_lowering.py` and every compilation do that."""
    made = {form: source for form in FORMS}
    for form, how in FORMS.items():
        if how is not None:
            made[form] = compile_model(source, how[0], optimize=how[1], cpu=cpu(), verify=False).model
    for auto in (form for form in FORMS if form.endswith("auto")):  # where it chose floats throughout
        floats = made[auto.replace("auto", "float")]
        made[auto] = floats if floats.graph == made[auto].graph else made[auto]
    return {form: model.SerializeToString() for form, model in made.items()}


def measure(files: Mapping[str, bytes], threads: int, rounds: int) -> tuple[dict[str, float], int]:
    """The median latency of each file, at batch 1, and the size of the image. Equal files are measured as one."""
    context = multiprocessing.get_context("spawn")
    asking: dict[str, Connection] = {}
    started = []
    try:
        for file, form in {file: form for form, file in reversed(list(files.items()))}.items():
            asking[form], theirs = context.Pipe()
            started.append(context.Process(target=_serve, args=(file, threads, theirs), daemon=True))
            started[-1].start()
        sizes = {connection.recv() for connection in asking.values()}
        runs = {form: max(_LEAST, round(_SLICE / _asked(connection, _LEAST))) for form, connection in asking.items()}
        random = np.random.default_rng(0)
        times: dict[str, list[float]] = {form: [] for form in asking}
        for _ in range(rounds):
            for form in random.permutation(list(asking)):
                times[form].append(_asked(asking[form], runs[form]))
    finally:
        for process in started:
            process.kill()
    medians = {files[form]: statistics.median(found) for form, found in times.items()}
    return {form: medians[file] for form, file in files.items()}, max(sizes)


def _asked(connection: Connection, runs: int) -> float:
    """The median of some runs in the process at the other end; what still spins there goes to sleep behind it."""
    connection.send(runs)
    found = float(connection.recv())
    time.sleep(_REST)
    return found


def _serve(file: bytes, threads: int, connection: Connection) -> None:
    """Be the process of a form: say the image's size, then the median of as many runs as are asked for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    image = {given.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    connection.send(max(shape))
    while True:
        found = []
        for _ in range(connection.recv()):
            start = time.perf_counter()
            session.run(None, image)
            found.append(time.perf_counter() - start)
        connection.send(statistics.median(found[1:]))  # the first wakes threads and fills caches


def table(rows: Sequence[Row], command: str) -> str:
    """The rows in Markdown: milliseconds of the original, and of each form the ratio to it."""
    others = [form for form in FORMS if form != "original"]
    lines = ["# Latency", "", f"Made by `{command}` on {machine()}, compiled with `--cpu {cpu()}`.", ""]
    lines += [
        "Batch 1. Milliseconds of the file as exported, and of each form the ratio to that; below 1 is faster. Where",
        "`auto` chooses floats throughout, it is the network of `float`, and measured as one.",
        "",
    ]
    head = ["network", "image", "threads", "original, ms", *others]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [
            Path(row.network).name if row.network.endswith(".onnx") else row.network,
            str(row.size),
            str(row.threads),
            f"{1000 * row.seconds['original']:.1f}",
        ]
        lines.append(f"| {' | '.join([*cells, *(f'{row.ratio(form):.2f}' for form in others)])} |")
    return "\n".join([*lines, ""])


def plot(rows: Sequence[Row], threads: int, file: str) -> None:
    """Bars: each form of each network, as a ratio to the file as exported."""
    from matplotlib import figure, rcParams

    rcParams["svg.hashsalt"] = "latency"  # the same figures give the same file
    chosen = [row for row in rows if row.threads == threads]
    forms = [form for form in FORMS if form != "original"]
    made = figure.Figure(figsize=(2 + 1.5 * len(chosen), 4), layout="constrained")
    axes = made.subplots()
    width = 0.8 / len(forms)
    colours = ["#9ecae1", "#4292c6", "#08519c", "#bdbdbd", "#fdbe85", "#fd8d3c", "#d94701"]
    for place, (form, colour) in enumerate(zip(forms, colours, strict=True)):
        at = [number + (place - (len(forms) - 1) / 2) * width for number in range(len(chosen))]
        axes.bar(at, [row.ratio(form) for row in chosen], width, label=form, color=colour)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(chosen)), [f"{Path(row.network).stem}\n{row.size} px" for row in chosen])
    axes.set_ylabel("latency / that of the file as exported")
    axes.set_title(f"onnxruntime, CPU, {threads} thread{'s' if threads > 1 else ''}, batch 1", fontsize=10)
    axes.legend(ncols=4, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    made.savefig(file, metadata={"Date": None})


def slower(row: Row) -> list[str]:
    """Where `auto` is slower than `float`, in words."""
    pairs = (("original, auto", "original, float"), ("Rep, auto", "Rep, float"))
    return [
        f"{row.network}, {row.threads} threads: {auto} takes {row.ratio(auto, to):.2f} of {to}"
        for auto, to in pairs
        if row.ratio(auto, to) > 1 + NOISE
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--threads", default="1,2", metavar="N,M", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=15, metavar="R", help="default: %(default)s")
    parser.add_argument("--size", type=int, metavar="N", help="of the image (default: the paper's)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the table goes (default: stdout)")
    parser.add_argument("--plot", metavar="FILE", help="a picture of the ratios, with the fewest threads: .svg or .png")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for network in options.networks.split(","):
        files = forms_of(source_of(network, options.size))
        for threads in map(int, options.threads.split(",")):
            seconds, size = measure(files, threads, options.rounds)
            rows.append(Row(network, size, threads, seconds))
            said = ", ".join(f"{form} {rows[-1].ratio(form):.2f}" for form in FORMS)
            print(f"{network}, {threads} threads, {1000 * seconds['original']:.1f} ms: {said}", file=sys.stderr)
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    text = table(rows, f"python -m benchmarks.latency {given}".strip())
    if options.output:
        Path(options.output).write_text(text)
    else:
        print(text)
    if options.plot:
        plot(rows, min(row.threads for row in rows), options.plot)
    found = [line for row in rows for line in slower(row)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
