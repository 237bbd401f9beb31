"""What `reptran-compile` understands. Nothing heavy is imported here: `--help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from reptran_compiler.choices import OUTPUT_CHOICES
from reptran_compiler.cli.flags import Parser, add_rewriting, add_rules, add_runs, at_least_one, seconds
from reptran_compiler.version import __version__

_DESCRIPTION = """\
Bring a binary neural network in ONNX into its RepTran form: every inner layer
reads beta times the channels with 1/beta of the filters, at equal weights and
equal multiply-accumulates. The result has to be retrained."""

_EXIT_CODES = """exit codes:
  0  done, and verified unless --no-verify
  1  nothing could be rewritten, or a check such as --strict failed
  2  wrong usage, or input that cannot be used
  3  verification failed; no model was written
  4  an error of the compiler itself (130: interrupted, 143: terminated)
"""


@dataclass(frozen=True)
class Arguments:
    """A command line, understood. The names are those of the flags."""

    model: str | None
    output: str | None
    beta: int
    scope: str
    fc: str
    bn: str
    weights: str
    repeat: str
    sign_zero: str
    optimize: str
    cpu: str
    classifier: str
    emit: str
    target: str
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    strict: bool
    passes: tuple[str, ...] | None
    rules: tuple[str, ...]
    paranoid: bool
    rule_seconds: float
    list_passes: bool
    explain: str | None
    verify: bool
    quick: bool
    dry_run: bool
    external_data: bool
    json: str | None
    map: str | None
    dump_dir: str | None
    reproducer: str | None
    threads: int
    seed: int
    quiet: bool
    verbose: int
    dims: dict[str, int] = field(default_factory=dict)


_OUTPUT = {
    "optimize": "lower the result for onnxruntime: cheaper operators, binary layers in integers (default: none)",
    "cpu": "what --optimize auto chooses for: AVX-512 VNNI (default), or AVX2 alone",
    "classifier": "int8: round the classifier's weights to 8 bits and a scale a channel, a change (default: float)",
    "emit": "write ONNX (default), or QONNX: BipolarQuant, Quant, and the data types of weights",
    "target": "packed: say what kernels of one bit cannot represent (default: any)",
}


class UsageError(Exception):
    """Flags that do not fit together."""


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Understand a command line. Ends the process with code 2 (or 0 for `--help`), as argparse does."""
    parser = make_parser()
    found = parser.parse_args(arguments)
    passes = found.passes and tuple(name.strip() for name in found.passes.split(",") if name.strip())
    understood = Arguments(
        model=found.model,
        output=found.output,
        beta=found.beta,
        scope=found.scope,
        fc=found.fc,
        bn=found.bn,
        weights=found.weights,
        repeat=found.repeat,
        sign_zero=found.sign_zero,
        optimize=found.optimize,
        cpu=found.cpu,
        classifier=found.classifier,
        emit=found.emit,
        target=found.target,
        exclude=tuple(found.exclude),
        include=tuple(found.include),
        strict=found.strict,
        passes=passes,
        rules=tuple(found.rules),
        paranoid=found.paranoid,
        rule_seconds=found.rule_seconds,
        list_passes=found.list_passes,
        explain=found.explain,
        verify=not found.no_verify,
        quick=found.verify == "quick",
        dry_run=found.dry_run,
        external_data=found.external_data,
        json=found.json,
        map=found.map,
        dump_dir=found.dump_dir,
        reproducer=found.reproducer,
        threads=found.threads,
        seed=found.seed,
        quiet=found.quiet,
        verbose=found.verbose,
        dims=dict(found.dim),
    )
    try:
        check(understood)
    except UsageError as error:
        parser.error(str(error))
    return understood


def check(arguments: Arguments) -> None:
    """See that flags fit together.

    Raises:
        UsageError: they do not.
    """
    if arguments.list_passes:
        return
    if arguments.model is None:
        raise UsageError("a MODEL is needed: an ONNX file, or - for standard input")
    if arguments.output is None and not arguments.dry_run and arguments.explain is None:
        raise UsageError("an output is needed: -o OUT, or --dry-run to write none")
    if arguments.reproducer is not None and arguments.model == "-":
        raise UsageError("--reproducer reads the model again: MODEL has to be a file")
    lowering = {
        "--optimize": arguments.optimize != "none",
        "--weights packed": arguments.weights == "packed",
        "--classifier int8": arguments.classifier == "int8",
    }
    what = next((flag for flag, given in lowering.items() if given), "")
    if arguments.emit == "qonnx" and what:
        raise UsageError(f"{what} is for onnxruntime, which --emit qonnx is not written for: leave one of them out")
    if arguments.passes == ():
        raise UsageError("--passes names no pass")
    streams = [path for path in (arguments.output, arguments.json, arguments.map) if path == "-"]
    if len(streams) > 1:
        raise UsageError("only one of -o, --json and --map can go to standard output")


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = Parser(
        prog="reptran-compile",
        usage="%(prog)s MODEL -o OUT [--beta B] [options]",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="an ONNX file; - for standard input")
    parser.add_argument("-o", "--output", metavar="OUT", help="the file to write; - for standard output")
    parser.add_argument("--beta", type=at_least_one, default=2, metavar="B", help="replication factor (default: 2)")
    rewriting = parser.add_argument_group("rewriting")
    add_rewriting(rewriting)
    rewriting.add_argument("--strict", action="store_true", help="a boundary is an error (exit code 1)")
    _add_passes(parser.add_argument_group("passes"))
    _add_verification(parser.add_argument_group("verification"))
    _add_reports(parser.add_argument_group("output and reports"))
    parser.add_argument("--version", action="version", version=f"reptran-compiler {__version__}")
    return parser


def _add_passes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--list-passes", action="store_true", help="show all passes and what they declare")
    group.add_argument("--passes", metavar="A,B,...", help="run these passes only, in this order within each phase")
    add_rules(group)
    group.add_argument(
        "--paranoid", action="store_true", help="test rules: watch the graph around every call, call each rule twice"
    )
    group.add_argument(
        "--rule-seconds", type=seconds, default=60.0, metavar="S", help="how long a rule may take (default: 60)"
    )
    group.add_argument(
        "--explain", metavar="NODE", help="what became of a node, and what each pass said of it; writes no model"
    )


def _add_verification(group: argparse._ArgumentGroup) -> None:
    ways = group.add_mutually_exclusive_group()
    words = "quick: every pair once, at one batch size, rules not executed one by one (default: full)"
    ways.add_argument("--verify", choices=("full", "quick"), default="full", help=words)
    ways.add_argument("--no-verify", action="store_true", help="do not verify; the result is marked as unverified")
    add_runs(group)


def _add_reports(group: argparse._ArgumentGroup) -> None:
    for flag, words in _OUTPUT.items():
        usual = OUTPUT_CHOICES[flag][0]
        group.add_argument(f"--{flag}", choices=OUTPUT_CHOICES[flag], default=usual, help=words)
    group.add_argument("--dry-run", action="store_true", help="do everything but writing the model")
    group.add_argument("--external-data", action="store_true", help="weights go to OUT.DIGEST.data (above 2 GB always)")
    group.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
    group.add_argument("--map", metavar="FILE", help="write where each weight went, as JSON")
    group.add_argument(
        "--dump-dir", metavar="DIR", help="write the canonical source, the specification and every stage"
    )
    group.add_argument(
        "--reproducer", metavar="DIR", help="on a failure, write the smallest model that shows it, with a script"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="name the passes that were applied, and every failure; tracebacks",
    )
