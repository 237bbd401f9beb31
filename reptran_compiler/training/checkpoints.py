"""A run between two epochs, in a file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reptran_compiler.errors import BadInput
from reptran_compiler.model.writing import write_bytes
from reptran_compiler.training.curve import Row
from reptran_compiler.training.recipe import Recipe, Step

_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if nothing had stopped it. No state of random numbers is among it: what is drawn
    depends on the seed and the epoch.

    Attributes:
        recipe: what is followed.
        data: what is learned, in words.
        told: what else the run depends on, by name: digests of the images and of the network's graph, and whether
            anyone teaches. What an older file does not say is not asked of it.
        rows: the curve so far.
        network: its state.
        optimiser: its state.
        average: the state of the averaged network; None where there is none.
    """

    recipe: Recipe
    data: str
    told: Mapping[str, str]
    rows: tuple[Row, ...]
    network: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    average: Mapping[str, Tensor] | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it. The file of before stays whole until the new one is.

        Raises:
            BadInput: it cannot be written.
        """
        content = {
            "version": _VERSION,
            "recipe": asdict(self.recipe),
            "data": self.data,
            "told": dict(self.told),
            "rows": [asdict(row) for row in self.rows],
            "network": self.network,
            "optimiser": self.optimiser,
            "average": self.average,
        }
        payload = io.BytesIO()
        torch.save(content, payload)
        write_bytes(payload.getvalue(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read one. Nothing of the file is executed.

        Raises:
            BadInput: it cannot be read, or is none.
        """
        name = os.fspath(path)
        try:
            payload = io.BytesIO(Path(name).read_bytes())
            content = torch.load(payload, map_location="cpu", weights_only=True)
        except OSError as error:
            raise BadInput(f"cannot read {name}: {error.strerror or error}") from None
        except Exception as error:  # noqa: BLE001 - zip files, pickles and tensors each have errors of their own
            raise BadInput(f"{name} is no checkpoint, or is damaged ({type(error).__name__})") from None
        try:
            if content["version"] != _VERSION:
                raise BadInput(f"{name} is a checkpoint of version {content['version']}; {_VERSION} is read")
            steps = tuple(Step(**step) for step in content["recipe"].pop("steps"))
            return cls(
                recipe=Recipe(steps=steps, **content["recipe"]),
                data=content["data"],
                told=content.get("told", {}),
                rows=tuple(Row(**row) for row in content["rows"]),
                network=content["network"],
                optimiser=content["optimiser"],
                average=content["average"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{name} is no checkpoint of a training run: {error}") from None

    def require(self, recipe: Recipe, data: str, told: Mapping[str, str], path: str | os.PathLike[str]) -> None:
        """See that the run that goes on is the one that was stopped.

        Raises:
            BadInput: it follows another recipe, sees other data, has another network, or is taught otherwise.
        """
        before, now = asdict(self.recipe), asdict(recipe)
        name = os.fspath(path)
        for key in before:
            if before[key] != now[key]:
                raise BadInput(f"{name} was trained with {key} {before[key]}, not {now[key]}: it cannot go on")
        if self.data != data:
            raise BadInput(f"{name} was trained on {self.data}, not on {data}: it cannot go on")
        for key, value in self.told.items():
            if told.get(key, value) != value:
                raise BadInput(f"{name} was trained with {key} ({value}), not with {told[key]}: it cannot go on")
