"""What `reptran-train` understands. Nothing heavy is imported here: `--help` is quick."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from reptran_compiler.cli.flags import Parser, add_pixels, at_least_one
from reptran_compiler.version import __version__

_DESCRIPTION = """\
Train a network that reptran-compile wrote, or any other that it reads, on images
from disk, and write it as ONNX again. Nothing is downloaded."""

_EPILOG = """recipes, with their published figures; --epochs and the like change them:
  reactnet  Adam, two steps (binary activations first, then weights as well) of 128
            epochs, batch 256, rate 0.00125 falling linearly (arXiv 2003.03488)
  adambnn   the same with 256 epochs and half the weight decay (arXiv 2106.11309)
  recu      SGD with momentum, 600 epochs, batch 256, rate 0.1 falling as a cosine
            behind 5 epochs of warm-up (arXiv 2103.12369)

data: a folder with MNIST's or Fashion-MNIST's IDX files, with CIFAR-10's batches, or
with folders train and val that hold a folder for each class; or an .npz file with
train_images, train_labels, test_images and test_labels.

several processes: torchrun --nproc-per-node N -m reptran_compiler.cli.train ...

exit codes:
  0  trained, verified with onnxruntime, and written
  2  wrong usage, or input that cannot be used
  3  verification failed, nothing written
  4  an error of the compiler itself (130: interrupted, 143: terminated)
"""
#: The recipes that there are (`training.recipe.RECIPES`, which would bring torch).
RECIPE_NAMES = ("reactnet", "adambnn", "recu")
#: Flags that replace what a recipe says.
_REPLACING = (
    *("epochs", "batch", "rate", "smoothing", "distillation", "temperature", "ema", "mixed", "seed"),
    *("activations", "weights"),
)
#: The straight-through estimators that there are (`training.ESTIMATORS`).
ESTIMATOR_NAMES = ("identity", "clip", "polynomial", "tanh", "recu")


@dataclass(frozen=True)
class TrainArguments:
    """A command line, understood. The names are those of the flags; None for what is not said."""

    model: str
    data: str
    output: str
    recipe: str
    replaced: dict[str, int | float | bool | str]
    weight_decay: float | None
    teacher: str | None
    padding: int | None
    flip: bool | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    checkpoint: str | None
    resume: bool
    log: str | None
    plot: str | None
    tensorboard: str | None
    calibrate: int
    latents: float
    device: str | None
    threads: int | None
    workers: int
    quiet: bool
    verbose: int


def parse(arguments: Sequence[str] | None = None) -> TrainArguments:
    """Understand a command line. Ends the process with code 2 (or 0 for `--help`), as argparse does."""
    parser = make_parser()
    found = parser.parse_args(arguments)
    if found.resume and found.checkpoint is None:
        parser.error("--resume needs --checkpoint FILE")
    said = {key: getattr(found, key) for key in _REPLACING}
    return TrainArguments(
        replaced={key: value for key, value in said.items() if value is not None},
        **{key: value for key, value in vars(found).items() if key not in _REPLACING},
    )


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = Parser(
        prog="reptran-train",
        usage="%(prog)s MODEL --data PATH --recipe NAME -o OUT [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="the network, an ONNX file; - for standard input")
    parser.add_argument("--data", required=True, metavar="PATH", help="images to train on and to test with: see below")
    parser.add_argument("--recipe", required=True, choices=RECIPE_NAMES, help="how it is trained: see below")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the trained network; - for standard output"
    )
    _add_recipe(parser.add_argument_group("instead of what the recipe says"))
    _add_data(parser.add_argument_group("images"))
    group = parser.add_argument_group("the run")
    words = "measure statistics on so many images first, as reptran-calibrate does (default: %(default)s; 0: don't)"
    group.add_argument("--calibrate", type=_count, default=1000, metavar="N", help=words)
    group.add_argument("--checkpoint", metavar="FILE", help="keep the run in a file, after each epoch")
    group.add_argument("--resume", action="store_true", help="go on from --checkpoint, where it is there")
    words = "the root mean square that a layer's latent weights begin with (default: %(default)s; 0: the file's)"
    group.add_argument("--latents", type=_not_negative, default=0.1, metavar="M", help=words)
    group.add_argument("--device", choices=("cpu", "cuda"), help="where (default: a GPU where there is one)")
    group.add_argument("--threads", type=at_least_one, metavar="N", help="threads of a process (default: torch's)")
    group.add_argument("--workers", type=_count, default=0, metavar="N", help="further processes that read images")
    group = parser.add_argument_group("reports")
    words = "write the curve as CSV, after each epoch (torchrun takes --log for its own)"
    group.add_argument("--curve", "--log", dest="log", metavar="FILE", help=words)
    group.add_argument("--plot", metavar="FILE", help="draw the curve, after each epoch: .svg, .png or .pdf")
    group.add_argument("--tensorboard", metavar="DIR", help="write the curve for TensorBoard, where it is installed")
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument("-v", "--verbose", action="count", default=0, help="print tracebacks")
    parser.add_argument("--version", action="version", version=f"reptran-compiler {__version__}")
    return parser


def _add_recipe(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=at_least_one, metavar="N", help="epochs of each step")
    group.add_argument("--batch", type=at_least_one, metavar="N", help="images in a batch, over all processes")
    group.add_argument("--rate", type=float, metavar="R", help="the learning rate at its largest")
    group.add_argument("--weight-decay", type=float, metavar="W", help="in the steps in which weights decay")
    group.add_argument("--smoothing", type=float, metavar="S", help="the share of a label that all classes get")
    group.add_argument("--teacher", metavar="FILE", help="an ONNX file whose logits are learned; run by onnxruntime")
    group.add_argument("--distillation", type=float, metavar="D", help="the teacher's share in the loss (default: 1)")
    group.add_argument("--temperature", type=float, metavar="T", help="of what is taught (default: 1)")
    group.add_argument("--ema", type=float, metavar="E", help="keep an average over batches, 0.999 or so")
    group.add_argument("--mixed", action="store_true", default=None, help="bfloat16, where the device has it")
    group.add_argument("--seed", type=int, metavar="N", help="of all that is drawn (default: 0)")
    for what in ("activations", "weights"):
        words = f"the straight-through estimator of {what}"
        group.add_argument(f"--{what}", choices=ESTIMATOR_NAMES, help=words)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--padding", type=_count, metavar="N", help="zeros around an image before a random crop")
    group.add_argument("--flip", action=argparse.BooleanOptionalAction, help="mirror every other image, or none")
    add_pixels(group)


def _count(text: str) -> int:
    """An integer from 0 on, for argparse."""
    return 0 if text == "0" else at_least_one(text)


def _not_negative(text: str) -> float:
    """A number from 0 on, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return number
