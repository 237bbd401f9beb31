"""The compilations that mistakes are planted in: each network with several options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reptran_compiler.pipeline import Options
from tests.planted.gate import Subject
from tests.planted.networks import SOURCES

#: Options by network, in the order in which compilations are tried: every network once, then once more.
_OPTIONS: tuple[Mapping[str, Mapping[str, Any]], ...] = (
    {
        "equal": {},
        "mixed": {},
        "plain": {"beta": 3},
        "joined": {"bn": "keep"},
        "alternating": {"fc": "fold", "bn": "keep"},
        **{name: {} for name in SOURCES if name not in ("equal", "mixed", "plain", "joined", "alternating")},
    },
    {
        "equal": {"bn": "keep", "fc": "fold", "beta": 3},
        "mixed": {"bn": "keep", "weights": "binary"},
        "plain": {"bn": "keep", "fc": "fold"},
        "joined": {"weights": "binary", "fc": "fold", "beta": 4},
        "alternating": {"weights": "binary"},
        "hidden_linear.torchscript": {"weights": "binary", "bn": "keep", "fc": "fold"},
        "bireal.dynamo": {"fc": "fold", "beta": 4},
        "dense.torchscript": {"weights": "binary", "fc": "fold", "bn": "keep"},
        "split_shuffle.torchscript": {"weights": "binary", "bn": "keep"},
        "se_grouped.dynamo": {"scope": "layer"},
        "react.dynamo": {"weights": "binary"},
        "resnet_pad.torchscript": {"weights": "binary", "bn": "keep"},
    },
)


def subjects() -> tuple[Subject, ...]:
    """The compilations, made when they are asked for; those of small networks first."""
    found = [
        Subject(name, SOURCES[name](), Options(**options), late=bool(place))
        for place, each in enumerate(_OPTIONS)
        for name, options in each.items()
    ]
    return tuple(sorted(found, key=lambda subject: len(subject.source.graph.node)))
