"""`python -m models list` and `python -m models export NAME -o FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from models import ZOO, Variant, build, export


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models", description="Binary networks in torch and their exports to ONNX."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the networks, their default input and what is in them")
    one = commands.add_parser("export", help="write one network to a file, its parameters drawn from a seed")
    one.add_argument("name", metavar="NAME", choices=list(ZOO), help="see `python -m models list`")
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one.add_argument("--exporter", choices=["dynamo", "torchscript"], default="dynamo")
    one.add_argument("--no-optimize", action="store_true", help="dynamo: optimize=False")
    one.add_argument("--no-folding", action="store_true", help="torchscript: do_constant_folding=False")
    one.add_argument("--training", choices=["eval", "preserve"], default="eval", help="torchscript: its TrainingMode")
    one.add_argument("--size", type=int, help="height and width of the image (default: see list)")
    one.add_argument("--classes", type=int, help="outputs of the classifier (default: see list)")
    one.add_argument("--batch", default="dynamic", help="a number, or `dynamic` (the default)")
    one.add_argument("--beta", type=int, default=1, help="above 1: export the RepTran form in torch instead")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument(
        "--negative-gamma",
        action="store_true",
        help="let a third of the BatchNormalization scales be negative",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 2 for options that do not fit together)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "list":
        for name, entry in ZOO.items():
            print(
                f"{name:20} {entry.channels} x {entry.size:3} x {entry.size:3} "
                f"(paper: {entry.paper_size:3}), "
                f"{entry.classes:4} classes  {entry.about}"
            )
        return 0
    try:
        variant = Variant(
            options.exporter, not options.no_optimize, not options.no_folding, options.training == "preserve"
        )
        batch = None if options.batch == "dynamic" else int(options.batch)
        network = build(
            options.name,
            options.beta,
            options.seed,
            size=options.size,
            classes=options.classes,
            negative_gamma=options.negative_gamma,
        )
    except ValueError as error:
        parser.error(str(error))
    file = export(network, options.output, variant, batch=batch)
    print(f"{file}: {file.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
