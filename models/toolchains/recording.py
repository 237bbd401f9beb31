"""Writing fixtures down: what the export scripts beside this file share.

They run in the environments of their toolchains, as `python models/toolchains/export_NAME.py`, so this file
imports nothing of this repository, and of packages only numpy and onnx (and onnxruntime, where a file is run).
What is drawn here lies on coarse grids: weights of a few levels and both signs, so that files pack well."""

from __future__ import annotations

import argparse
import json
import lzma
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Array = Any
Arrays = Mapping[str, Array]

#: Where fixtures lie: DIR/TOOLCHAIN/NAME.onnx.xz, NAME.npz, and DIR/TOOLCHAIN.json.
FILES = Path(__file__).resolve().parent / "files"
#: How closely the exported file has to agree with the framework, relative to the largest output.
AGREE = 1e-5
#: How many inputs are tried: on some of them a sign near zero falls otherwise in onnxruntime.
TRIES = 40
_PACKING = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 2, "pb": 2}]


class Drawn:
    """Parameters and inputs from a seed: the same on every machine, nothing degenerate."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))

    def latent(self, shape: Sequence[int]) -> Array:
        """Weights behind a binarisation, float32: both signs, four magnitudes, one of them frequent, and no 0."""
        signs = self._random.choice([-1.0, 1.0], size=shape)
        sizes = self._random.choice([0.5, 0.125, 0.25, 0.875], size=shape, p=[0.985, 0.005, 0.005, 0.005])
        return (signs * sizes).astype(np.float32)

    def real(self, shape: Sequence[int], fan_in: int) -> Array:
        """Weights of a real-valued layer, float32: 31 levels, unit variance behind `fan_in` of them."""
        levels = np.round(np.clip(5 * self._random.standard_normal(shape), -15, 15))
        return (levels * np.float32(0.2 / np.sqrt(fan_in))).astype(np.float32)

    def gamma(self, count: int) -> Array:
        """Scales of a normalisation, float32 [count]: 0.5 to 1.5, one in eight of them negative."""
        signs = np.where(self._random.random(count) < 0.125, -1.0, 1.0)
        return (signs * self._random.uniform(0.5, 1.5, count)).astype(np.float32)

    def offset(self, count: int, size: float = 0.3) -> Array:
        """Biases, float32 [count]."""
        return (size * self._random.standard_normal(count)).astype(np.float32)

    def slope(self, count: int) -> Array:
        """Slopes of a PReLU, float32 [count]: -0.1 to 0.5."""
        return self._random.uniform(-0.1, 0.5, count).astype(np.float32)

    def scale(self, count: int) -> Array:
        """Positive factors, float32 [count]: 0.2 to 1."""
        return self._random.uniform(0.2, 1.0, count).astype(np.float32)

    def statistics(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """Statistics of a normalisation near to those of some maps, float32 [count] each."""
        spread = np.sqrt(np.asarray(variance, np.float64)) + 1e-3
        moved = mean + 0.2 * spread * self._random.standard_normal(np.shape(mean))
        variances = (np.asarray(variance) + 0.05 * np.mean(variance) + 1e-3) * self._random.uniform(
            0.7, 1.5, np.shape(mean)
        )
        return np.asarray(moved, np.float32), np.asarray(variances, np.float32)

    def images(self, shape: Sequence[int]) -> Array:
        """Inputs, float32: 33 levels from -2 to 2."""
        return (np.round(np.clip(8 * self._random.standard_normal(shape), -16, 16)) / 8).astype(np.float32)


@dataclass
class Recorder:
    """Writes the fixtures of one toolchain.

    Attributes:
        toolchain: its name.
        packages: the packages whose versions are noted.
        folder: where fixtures lie.
        only: names of the networks to write; all where empty.
        full: whether networks are exported at their paper's width.
    """

    toolchain: str
    packages: Sequence[str]
    folder: Path = FILES
    only: Sequence[str] = ()
    full: bool = False
    _names: list[str] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Whether a network is to be written."""
        self._names.append(name)
        return not self.only or name in self.only

    def write(
        self,
        name: str,
        about: str,
        model: onnx.ModelProto,
        shape: Sequence[int],
        binary: int,
        framework: Callable[[Array], Array],
        runs: Callable[[onnx.ModelProto, Arrays], Sequence[Array]] | None = None,
    ) -> None:
        """Write one network of one input and one output.

        Args:
            name: the network's.
            about: a sentence on what is exported.
            model: as the exporter made it.
            shape: the input's, batch included.
            binary: how many layers binarise both their input and their weights, as the framework knows it; one
                that binarises the network's own input is a stem and does not count.
            framework: the network in the framework it comes from: inputs in, outputs out.
            runs: what runs the model, feeds in, outputs out; onnxruntime where absent.

        Raises:
            SystemExit: the file disagrees with the framework on every input tried, or its output does not
                depend on its input.
        """
        initializers = {tensor.name for tensor in model.graph.initializer}
        (given,) = [value.name for value in model.graph.input if value.name not in initializers]
        (made,) = [value.name for value in model.graph.output]
        run = runs or _onnxruntime(model)
        best, chosen = np.inf, None
        for seed in range(TRIES):
            images = Drawn(1000 + seed).images(shape)
            expected = np.asarray(framework(images))
            found = np.asarray(run(model, {given: images})[0])
            error = float(np.abs(found - expected).max() / np.abs(expected).max())
            if error < best:
                best, chosen = error, (images, expected)
            if best <= AGREE:
                break
        if chosen is None or not best <= AGREE:
            sys.exit(f"{self.toolchain} {name}: the file is off by {best:.1e} from the framework on every input")
        images, expected = chosen
        others = np.asarray(framework(Drawn(999).images(shape)))
        if np.abs(others - expected).max() < 1e-3 * np.abs(expected).max():
            sys.exit(f"{self.toolchain} {name}: the output does not depend on the input")
        folder = self.folder / self.toolchain
        folder.mkdir(parents=True, exist_ok=True)
        packed = lzma.compress(model.SerializeToString(), lzma.FORMAT_XZ, filters=_PACKING)
        (folder / f"{name}.onnx.xz").write_bytes(packed)
        np.savez_compressed(folder / f"{name}.npz", **{f"in:{given}": images, f"out:{made}": expected})
        print(
            f"{self.toolchain} {name}: {len(model.graph.node)} nodes, {len(packed):,} bytes, "
            f"input {seed}, off by {best:.1e}",
            file=sys.stderr,
            flush=True,
        )
        self._note(name, about, binary)

    def check_names(self) -> None:
        """See that all that were to be written are there.

        Raises:
            SystemExit: one is not.
        """
        for name in self.only:
            if name not in self._names:
                sys.exit(f"{self.toolchain}: there is no network {name!r}: choose from {', '.join(self._names)}")

    def _note(self, name: str, about: str, binary: int) -> None:
        """Keep what is known of a fixture and its making in DIR/TOOLCHAIN.json."""
        path = self.folder / f"{self.toolchain}.json"
        noted = json.loads(path.read_text()) if path.exists() else {}
        noted["python"] = platform.python_version()
        noted["versions"] = {each: version(each) for each in self.packages}
        entry = {"about": about, "binary_layers": binary}
        noted["networks"] = dict(sorted({**noted.get("networks", {}), name: entry}.items()))
        path.write_text(json.dumps(noted, indent=2) + "\n")


@contextmanager
def recorder(toolchain: str, packages: Sequence[str]) -> Iterator[Recorder]:
    """A recorder as the command line of an export script asks for it, to be asked for every network inside.

    Raises:
        SystemExit: `--only` names a network that there is not.
    """
    parser = argparse.ArgumentParser(description=f"Export the networks of {toolchain} as fixtures.")
    parser.add_argument("-o", "--output", type=Path, default=FILES, metavar="DIR", help=f"default: {FILES}")
    parser.add_argument("--only", default="", metavar="A,B", help="networks (default: all)")
    parser.add_argument("--full", action="store_true", help="at the papers' widths: tens of MB; keep them out of git")
    options = parser.parse_args()
    only = tuple(filter(None, options.only.split(",")))
    record = Recorder(toolchain, packages, options.output, only, options.full)
    yield record
    record.check_names()


def _onnxruntime(model: onnx.ModelProto) -> Callable[[onnx.ModelProto, Arrays], Sequence[Array]]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return lambda _, feeds: session.run(None, dict(feeds))
