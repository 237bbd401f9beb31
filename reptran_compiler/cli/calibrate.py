"""`reptran-calibrate`: from arguments to an exit code. Heavy modules are imported once there is work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from reptran_compiler.cli.calibrate_arguments import CalibrateArguments, parse
from reptran_compiler.cli.ending import Command
from reptran_compiler.errors import BadInput, NothingToDo
from reptran_compiler.extras import need


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words behind the command's name; those of the process when absent.

    Returns:
        The exit code: 0 measured, verified and written, 1 no normalisation, 2 usage or bad input, 3 verification
        failed, 4 an error of the compiler.
    """
    try:
        understood = parse(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    command = Command("reptran-calibrate", arguments, bool(understood.verbose))
    return command.run(lambda: _run(understood))


def _run(arguments: CalibrateArguments) -> int:
    need("torch", "calibration")
    _see_output(arguments)

    import torch

    from reptran_compiler.cli.train_recipe import normalised
    from reptran_compiler.model.io import read_model
    from reptran_compiler.model.writing import write_model
    from reptran_compiler.reporting import make_console, progress
    from reptran_compiler.training import calibrate, to_torch, verified
    from reptran_compiler.training.data import image_size, plain_batches, read_dataset
    from reptran_compiler.training.fitting import float_type, see_images

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    model = read_model(arguments.model).model
    data = normalised(read_dataset(arguments.data, **image_size(model)), arguments.mean, arguments.std)
    network = to_torch(model)
    with progress(make_console(stderr=True), quiet=arguments.quiet, remaining=True) as step:
        step("reading images", 0, None)
        see_images(network, data)
        batches = plain_batches(data, arguments.images, arguments.batch, arguments.seed, float_type(network))
        count = calibrate(network, batches, lambda done, total: step("measuring", done, total))
    if not count:
        raise NothingToDo(f"{arguments.model} has no batch normalisation whose statistics could be measured")
    write_model(verified(network), arguments.output)
    if not arguments.quiet:
        stream = sys.stderr if arguments.output == "-" else sys.stdout
        images = sum(len(each) for each in batches)
        print(f"measured: {count} normalisations on {images:,} images of {data.name}", file=stream)
    return 0


def _see_output(arguments: CalibrateArguments) -> None:
    """See that the file can be written, and that it is none that is read."""
    from reptran_compiler.model.io import STREAM
    from reptran_compiler.outputs import Outputs

    Outputs(arguments.output).check_writable()
    read = [os.path.realpath(each) for each in (arguments.model, arguments.data) if each != STREAM]
    if arguments.output != STREAM and os.path.realpath(arguments.output) in read:
        raise BadInput(f"{arguments.output} is read and cannot be written as well: choose another output")


if __name__ == "__main__":
    sys.exit(main())
