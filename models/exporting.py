"""Export a network to ONNX as its users do: with either exporter of torch, and the options that change what
they write."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import torch
from torch import nn

from models.zoo import plan_of


@dataclass(frozen=True)
class Variant:
    """How to export: `optimize` is dynamo's, `folding` and `preserve` (TrainingMode.PRESERVE, in eval mode)
    are TorchScript's."""

    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    optimize: bool = True
    folding: bool = True
    preserve: bool = False

    def __post_init__(self) -> None:
        if self.exporter == "dynamo" and (not self.folding or self.preserve):
            raise ValueError("do_constant_folding and TrainingMode are options of the TorchScript exporter")
        if self.exporter == "torchscript" and not self.optimize:
            raise ValueError("optimize is an option of the dynamo exporter")


VARIANTS: dict[str, Variant] = {
    "dynamo": Variant(),
    "dynamo-unoptimized": Variant(optimize=False),
    "torchscript": Variant("torchscript"),
    "torchscript-unfolded": Variant("torchscript", folding=False),
    "torchscript-preserve": Variant("torchscript", preserve=True),
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's progress lines, warnings and log records out of the way, and put everything back."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export(
    network: nn.Module,
    file: str | Path,
    variant: Variant = Variant(),
    *,
    batch: int | None = None,
    image: tuple[int, int, int] | None = None,
) -> Path:
    """Write `network` to `file`, its input named `input`, its output `logits`.

    `batch` is a fixed batch size; None (the default) leaves it dynamic, as the axis `N`.  `image` is (channels, height,
    width); a network from `models.build`, `fuse` or `rep_form` knows it.  The same network
    and variant give the same bytes, whatever the machine: the stack traces that dynamo notes for each node,
    with their paths, are left out."""
    images = torch.zeros(batch or 2, *(plan_of(network).image if image is None else image))
    file = Path(file)
    with tempfile.TemporaryDirectory(dir=file.resolve().parent) as folder:
        raw = Path(folder) / "raw.onnx"
        with _quiet(), torch.no_grad():
            if variant.exporter == "dynamo":
                shapes = None if batch else ({0: torch.export.Dim("N", min=1)},)
                torch.onnx.export(
                    network,
                    (images,),
                    str(raw),
                    dynamo=True,
                    input_names=["input"],
                    output_names=["logits"],
                    dynamic_shapes=shapes,
                    optimize=variant.optimize,
                    external_data=False,
                    verbose=False,
                )
            else:
                mode = torch.onnx.TrainingMode.PRESERVE if variant.preserve else torch.onnx.TrainingMode.EVAL
                axes = None if batch else {"input": {0: "N"}, "logits": {0: "N"}}
                torch.onnx.export(
                    network,
                    (images,),
                    str(raw),
                    dynamo=False,
                    input_names=["input"],
                    output_names=["logits"],
                    dynamic_axes=axes,
                    do_constant_folding=variant.folding,
                    training=mode,
                    verbose=False,
                )
        model = onnx.load(str(raw))
        for node in model.graph.node:
            notes = [note for note in node.metadata_props if note.key != "pkg.torch.onnx.stack_trace"]
            del node.metadata_props[:]
            node.metadata_props.extend(notes)
        onnx.save(model, str(raw))
        os.replace(raw, file)
    return file
