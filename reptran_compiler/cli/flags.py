"""The flags that the commands share, and what becomes of wrong ones. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from reptran_compiler.choices import CHOICES

_REWRITING: Mapping[str, str] = MappingProxyType(
    {
        "scope": "wide maps through the whole network (default), or drop-in layers between narrow maps",
        "fc": "the classifier reads all copies (default), or their mean with the weights it had",
        "bn": "fold BatchNormalization into scale and bias (default), or keep its nodes, wide",
        "weights": "keep real-valued weights with their Sign in the graph (default), or store +-1, or bits",
        "repeat": "write replication as Tile (default), as Concat of a map with itself, or as Expand and Reshape",
        "sign_zero": "keep Sign, which is 0 at 0 (default), or make each Sign of the source +1 there, which changes it",
    }
)


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, without the whole usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists all options)\n")


def add_rewriting(group: argparse._ArgumentGroup) -> None:
    """Add what the result depends on: `CHOICES`, layers left alone or added."""
    for key, words in _REWRITING.items():
        usual = CHOICES[key][0]
        group.add_argument(f"--{key.replace('_', '-')}", choices=CHOICES[key], default=usual, help=words)
    for flag, words in (
        ("--exclude", "leave layers alone whose node name matches; may be repeated"),
        ("--include", "rewrite layers whose node name matches, narrow input or not; may be repeated"),
    ):
        group.add_argument(flag, type=regex, action="append", default=[], metavar="REGEX", help=words)


def add_rules(group: argparse._ArgumentGroup) -> None:
    """Add `--rules`."""
    group.add_argument(
        "--rules",
        action="append",
        default=[],
        metavar="FILE.py",
        help="load further rules from a file (it is executed); may be repeated",
    )


def add_runs(group: argparse._ArgumentGroup) -> None:
    """Add what runs of a model depend on: sizes of dynamic axes, threads, and the seed."""
    group.add_argument(
        "--dim",
        type=dimension,
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="size of a dynamic axis other than the batch, for runs and counts; may be repeated",
    )
    group.add_argument(
        "--threads", type=at_least_one, default=1, metavar="N", help="threads of onnxruntime (default: 1)"
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the numbers to verify with (default: 0); changes no result"
    )


def add_pixels(group: argparse._ActionsContainer) -> None:
    """Add how pixels become numbers, where that is not the data set's own."""
    for flag, words in (("--mean", "subtract these from pixels of 0 to 1"), ("--std", "and divide by these")):
        group.add_argument(flag, type=_numbers, metavar="A[,B,C]", help=f"{words}: for all channels, or each")


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, for argparse."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form A or A,B,C") from None


def at_least_one(text: str) -> int:
    """A positive integer, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least 1")
    return number


def seconds(text: str) -> float:
    """A time limit, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def regex(text: str) -> str:
    """A regular expression, for argparse."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def dimension(text: str) -> tuple[str, int]:
    """An axis with its size, for argparse."""
    name, equals, size = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SIZE")
    return name, at_least_one(size)
