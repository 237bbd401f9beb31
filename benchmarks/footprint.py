"""What deployed networks take: bytes of the file, seconds until onnxruntime has loaded it, and memory.

    python -m benchmarks.footprint [--networks A,B] [--rounds 5] [--size N] [-o FILE]

Networks and forms are those of `benchmarks.latency`, with `--weights packed` and `--classifier int8`.  Each form is
loaded from its file and run once, at batch 1 on one thread, by a process of its own; a round does so for each of them,
in an order drawn anew, and what counts is the median over the rounds and its ratio to that of `Rep, float`.  It ends
with 1 where a packed form is loaded more slowly, or takes more memory, than it may."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.latency import NETWORKS, source_of
from benchmarks.machine import cpu, machine
from reptran_compiler import compile_model

#: The forms of a network, by name: the options that it is compiled with; None for the file as it was exported.
FORMS: Mapping[str, Mapping[str, Any] | None] = {
    "original": None,
    "Rep": {},
    "Rep, float": {"optimize": "float"},
    "Rep, float, packed": {"optimize": "float", "weights": "packed"},
    "Rep, auto": {"optimize": "auto"},
    "Rep, auto, packed": {"optimize": "auto", "weights": "packed"},
    "Rep, auto, packed, classifier int8": {"optimize": "auto", "weights": "packed", "classifier": "int8"},
}
#: What the others are compared with.
BASE = "Rep, float"
#: How much more than `BASE` a packed form may take: of seconds, and of memory, which the system's allocator decides by
#: a few percent.
SECONDS, MEMORY = 1.25, 1.05
#: Differences that count for nothing, in networks that are small: seconds, and bytes.
LEAST_SECONDS, LEAST_MEMORY = 0.02, 5e6

#: A process that loads a file and runs it once: seconds of processor time, and the bytes that its memory grew by.
_PROCESS = """
import json, sys, time
import numpy as np, onnxruntime as ort

def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
before, start = peak(), time.process_time()
session = ort.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
seconds = time.process_time() - start
image = session.get_inputs()[0]
shape = [size if isinstance(size, int) else 1 for size in image.shape]
session.run(None, {image.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)})
print(json.dumps([seconds, peak() - before]))
"""


@dataclass(frozen=True)
class Footprint:
    """What a form takes: bytes of its file, seconds of processor time to load it, bytes of memory at most."""

    size: float
    seconds: float
    memory: float

    def over(self, other: Footprint) -> Footprint:
        """The ratios to another one."""
        return Footprint(self.size / other.size, self.seconds / other.seconds, self.memory / other.memory)


def files_of(network: str, size: int | None, folder: Path) -> dict[str, Path]:
    """Each form of a network as a file. They are not verified here: every compilation by the command is."""
    source = source_of(network, size)
    made = {}
    for number, (form, options) in enumerate(FORMS.items()):
        model = source if options is None else compile_model(source, 2, cpu=cpu(), verify=False, **options).model
        made[form] = folder / f"{number}.onnx"
        made[form].write_bytes(model.SerializeToString())
    return made


def measure(files: Mapping[str, Path], rounds: int) -> dict[str, Footprint]:
    """What each form takes, by processes that take turns."""
    random = np.random.default_rng(0)
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in files}
    for _ in range(rounds):
        for form in random.permutation(list(files)):
            done = subprocess.run(
                [sys.executable, "-c", _PROCESS, str(files[form])], check=True, capture_output=True, text=True
            )
            seconds, memory = json.loads(done.stdout)
            found[form].append((seconds, memory))
    return {
        form: Footprint(files[form].stat().st_size, *map(statistics.median, zip(*some, strict=True)))
        for form, some in found.items()
    }


def missed(network: str, forms: Mapping[str, Footprint]) -> list[str]:
    """Where a packed form takes more than it may, in words."""
    lines, base = [], forms[BASE]
    for form, footprint in forms.items():
        ratio = footprint.over(base)
        if "packed" not in form:
            continue
        if ratio.seconds > SECONDS and footprint.seconds - base.seconds > LEAST_SECONDS:
            lines.append(f"{network}: {form} takes {ratio.seconds:.2f} of the seconds of {BASE} to load")
        if ratio.memory > MEMORY and footprint.memory - base.memory > LEAST_MEMORY:
            lines.append(f"{network}: {form} takes {ratio.memory:.2f} of the memory of {BASE}")
    return lines


def table(rows: Mapping[str, Mapping[str, Footprint]], command: str) -> str:
    """The rows in Markdown: a line for each network and form, with ratios to `BASE`."""
    lines = ["# Size, load and memory", "", f"Made by `{command}` on {machine()}, compiled with `--cpu {cpu()}`.", ""]
    lines += [
        "*load*: processor time until onnxruntime has loaded the file, its optimisations included, on one thread.",
        "*peak*: by how much the largest resident memory of a process grows when it loads the file and runs it once.",
        f"Medians; in brackets the ratio to {BASE}. MB are 10^6 bytes.",
        "",
        "| network | form | file, MB | load, ms | peak, MB |",
        "|---|---|---|---|---|",
    ]
    for network, forms in rows.items():
        for form, found in forms.items():
            ratio = found.over(forms[BASE])
            cells = [
                f"{found.size / 1e6:.2f} ({ratio.size:.2f})",
                f"{found.seconds * 1e3:.0f} ({ratio.seconds:.2f})",
                f"{found.memory / 1e6:.0f} ({ratio.memory:.2f})",
            ]
            lines.append(f"| {' | '.join([network, form, *cells])} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, metavar="R", help="default: %(default)s")
    parser.add_argument("--size", type=int, metavar="N", help="of the image (default: the paper's)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the table goes (default: stdout)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {}
    for network in options.networks.split(","):
        with tempfile.TemporaryDirectory(prefix="reptran-footprint-") as folder:
            rows[network] = measure(files_of(network, options.size, Path(folder)), options.rounds)
        said = ", ".join(f"{form} {found.size / 1e6:.1f} MB" for form, found in rows[network].items())
        print(f"{network}: {said}", file=sys.stderr, flush=True)
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    text = table(rows, f"python -m benchmarks.footprint {given}".strip())
    if options.output:
        Path(options.output).write_text(text)
    else:
        print(text)
    found = [line for network, forms in rows.items() for line in missed(network, forms)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
