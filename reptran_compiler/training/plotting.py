"""A curve as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from reptran_compiler.errors import BadInput
from reptran_compiler.extras import need
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.training.curve import Row

_FORMATS = ("svg", "png", "pdf")


def plot_format(path: str | os.PathLike[str]) -> str:
    """The format of a picture, from its file's name.

    Raises:
        BadInput: it is not known, or matplotlib is not installed.
    """
    need("matplotlib", "a plot")
    ending = Path(path).suffix.lstrip(".").lower()
    if ending not in _FORMATS:
        raise BadInput(f"cannot plot to {os.fspath(path)}: name a file that ends with .{', .'.join(_FORMATS)}")
    return ending


def plot_curve(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Draw loss and accuracy by epoch, in training and in test. The file appears whole or not at all.

    Raises:
        BadInput: matplotlib is not installed, the format is not known, or the file cannot be written.
    """
    ending = plot_format(path)
    from matplotlib import figure, rc_context

    # the same curve is the same file: no date, no names drawn at random
    with rc_context({"svg.hashsalt": "reptran", "svg.fonttype": "none"}):
        picture = figure.Figure(figsize=(9, 3.5), layout="constrained")
        epochs = [row.epoch for row in rows]
        for axes, name, scale in zip(picture.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
            for part in ("train", "test"):
                axes.plot(epochs, [scale * getattr(row, f"{part}_{name}") for row in rows], label=part)
            for before, after in zip(rows, rows[1:], strict=False):
                if before.step != after.step:
                    axes.axvline((before.epoch + after.epoch) / 2, color="0.7", linewidth=1)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set(xlabel="epoch", ylabel=name if scale == 1 else f"{name} in %")
            axes.legend()
        payload = io.BytesIO()
        picture.savefig(payload, format=ending, metadata={} if ending == "png" else _UNDATED[ending])
    write_bytes(payload.getvalue(), path)


#: What a picture would say of the time that it was made at.
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
