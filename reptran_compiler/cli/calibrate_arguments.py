"""What `reptran-calibrate` understands. Nothing heavy is imported here: `--help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from reptran_compiler.cli.flags import Parser, add_pixels, at_least_one
from reptran_compiler.version import __version__

_DESCRIPTION = """\
Measure the statistics of a network's batch normalisations on images, layer by layer,
without training: a Rep network adds up other channels than its original did. Nothing
is downloaded."""

_EPILOG = """normalisations that were folded into scales and offsets get those by which each channel has
the mean and the variance that the original's would have on the same input; of a network
that was trained since it was compiled they stay as they are.

data: a folder with MNIST's or Fashion-MNIST's IDX files, with CIFAR-10's batches, or
with folders train and val that hold a folder for each class; or an .npz file with
train_images, train_labels, test_images and test_labels. Those to train on are used.

exit codes:
  0  measured, verified with onnxruntime, and written
  1  the network has no normalisation
  2  wrong usage, or input that cannot be used
  3  verification failed, nothing written
  4  an error of the compiler itself (130: interrupted, 143: terminated)
"""


@dataclass(frozen=True)
class CalibrateArguments:
    """A command line, understood. The names are those of the flags; None for what is not said."""

    model: str
    data: str
    output: str
    images: int
    batch: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    seed: int
    threads: int | None
    quiet: bool
    verbose: int


def parse(arguments: Sequence[str] | None = None) -> CalibrateArguments:
    """Understand a command line. Ends the process with code 2 (or 0 for `--help`), as argparse does."""
    return CalibrateArguments(**vars(make_parser().parse_args(arguments)))


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = Parser(
        prog="reptran-calibrate",
        usage="%(prog)s MODEL --data PATH -o OUT [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the network, an ONNX file; - for standard input")
    parser.add_argument("--data", required=True, metavar="PATH", help="images to measure on: see below")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the network; - for standard output")
    words = "how many images, drawn from those to train on; all are in memory (default: %(default)s)"
    parser.add_argument("--images", type=at_least_one, default=1000, metavar="N", help=words)
    words = "images that run together (default: %(default)s)"
    parser.add_argument("--batch", type=at_least_one, default=100, metavar="N", help=words)
    add_pixels(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which images are drawn (default: 0)")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="threads (default: torch's)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="print tracebacks")
    parser.add_argument("--version", action="version", version=f"reptran-compiler {__version__}")
    return parser
