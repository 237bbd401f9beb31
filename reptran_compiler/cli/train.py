"""`reptran-train`: from arguments to an exit code. Heavy modules are imported once there is work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from reptran_compiler.cli.ending import Command
from reptran_compiler.cli.train_arguments import TrainArguments, parse
from reptran_compiler.errors import BadInput
from reptran_compiler.extras import need

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

    from reptran_compiler.training.curve import Observer, Row
    from reptran_compiler.training.data import Dataset
    from reptran_compiler.training.processes import Processes
    from reptran_compiler.training.recipe import Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words behind the command's name; those of the process when absent.

    Returns:
        The exit code: 0 trained, verified and written, 2 usage or bad input, 3 verification failed, 4 an error of the
        compiler.
    """
    try:
        understood = parse(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    command = Command("reptran-train", arguments, bool(understood.verbose))
    return command.run(lambda: _run(understood))


def _run(arguments: TrainArguments) -> int:
    need("torch", "training")
    _see_outputs(arguments)

    import torch

    from reptran_compiler.cli.train_recipe import recipe
    from reptran_compiler.model.io import read_model
    from reptran_compiler.training.processes import joined

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device, asked = _device(arguments), recipe(arguments)
    model = read_model(arguments.model).model
    data = _dataset(arguments, model)
    with joined(device) as processes:
        _train(arguments, model, data, asked, processes.place(device), processes)
    return 0


def _train(
    arguments: TrainArguments,
    model: ModelProto,
    data: Dataset,
    asked: Recipe,
    device: torch.device,
    processes: Processes,
) -> None:
    """Train and write, with what the command line asks for told on the way."""
    from reptran_compiler.model.writing import write_model
    from reptran_compiler.reporting import make_console, progress
    from reptran_compiler.training import calibrate, rescale, to_torch, verified
    from reptran_compiler.training.data import plain_batches
    from reptran_compiler.training.fitting import float_type, see_fit
    from reptran_compiler.training.teachers import onnx_teacher
    from reptran_compiler.training.trainer import train

    teacher = None if arguments.teacher is None else onnx_teacher(arguments.teacher, arguments.threads or 1)
    observers = _observers(arguments)
    network = to_torch(model, activations=asked.activations, weights=asked.weights)
    see_fit(network, data, teacher=teacher)

    def observe(rows: Sequence[Row]) -> None:
        for each in observers:
            each(rows)

    quiet = arguments.quiet or not processes.leads
    with progress(make_console(stderr=True), quiet=quiet, remaining=True) as step:
        if arguments.latents:
            rescale(network, arguments.latents)
        if arguments.calibrate:
            step("measuring statistics", 0, None)
            dtype = float_type(network)
            calibrate(network, plain_batches(data, arguments.calibrate, asked.batch, asked.seed, dtype))
        rows = train(
            network,
            data,
            asked,
            teacher=teacher,
            checkpoint=arguments.checkpoint,
            resume=arguments.resume,
            device=device,
            processes=processes,
            workers=arguments.workers,
            progress=step,
            observe=observe,
        )
    if not processes.leads:
        return
    write_model(verified(network.cpu()), arguments.output)
    if not arguments.quiet:
        stream = sys.stderr if arguments.output == "-" else sys.stdout
        for line in _said(rows[-1], data):
            print(line, file=stream)


def _said(last: Row, data: Dataset) -> tuple[str, ...]:
    """What is said of a run at its end."""
    return (
        f"trained: {last.epoch} epochs of {data}",
        f"right: {100 * last.test_accuracy:.2f} % of the images to test with, loss {last.test_loss:.4f}",
    )


def _observers(arguments: TrainArguments) -> list[Observer]:
    """What is told of each epoch, as the command line asks for."""
    from reptran_compiler.model.writing import write_bytes
    from reptran_compiler.training.curve import to_csv
    from reptran_compiler.training.plotting import plot_curve
    from reptran_compiler.training.tensorboard import tensorboard

    log, plot = arguments.log, arguments.plot
    found: list[Observer] = []
    if log is not None:
        found.append(lambda rows: write_bytes(to_csv(rows), log))
    if plot is not None:
        found.append(lambda rows: plot_curve(rows, plot))
    if arguments.tensorboard is not None:
        found.append(tensorboard(arguments.tensorboard))
    return found


def _device(arguments: TrainArguments) -> torch.device:
    """Where the network is trained.

    Raises:
        BadInput: a GPU is asked for, and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if arguments.device == "cuda" and not there:
        raise BadInput("--device cuda: torch finds no GPU here")
    return torch.device(arguments.device or ("cuda" if there else "cpu"))


def _dataset(arguments: TrainArguments, model: ModelProto) -> Dataset:
    """The images, augmented and normalised as the command line asks for."""
    from reptran_compiler.cli.train_recipe import adapted
    from reptran_compiler.training.data import image_size, read_dataset

    return adapted(read_dataset(arguments.data, **image_size(model)), arguments)


def _see_outputs(arguments: TrainArguments) -> None:
    """See that every file can be written, that no two are one, and that none is a file that is read."""
    from reptran_compiler.model.io import STREAM
    from reptran_compiler.outputs import Outputs

    written = (arguments.output, arguments.log, arguments.plot, arguments.checkpoint)
    if STREAM in written[1:]:
        raise BadInput("--curve, --plot and --checkpoint are written again and again: name files")
    for one, other in combinations(written, 2):
        Outputs(map=one, report=other).check_writable()
    given = [each for each in (arguments.model, arguments.teacher) if each not in (None, STREAM)]
    read = [os.path.realpath(str(each)) for each in (*given, arguments.data)]
    for path in written:
        if path not in (None, STREAM) and os.path.realpath(str(path)) in read:
            raise BadInput(f"{path} is read and cannot be written as well: choose another output")
    if arguments.plot is not None:
        from reptran_compiler.training.plotting import plot_format

        plot_format(arguments.plot)


if __name__ == "__main__":
    sys.exit(main())
