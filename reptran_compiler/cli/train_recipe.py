"""From flags to a recipe, and to images as it shall see them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reptran_compiler.cli.train_arguments import TrainArguments
from reptran_compiler.errors import BadInput
from reptran_compiler.training.data import Dataset, Stored
from reptran_compiler.training.recipe import RECIPES, Recipe


def recipe(arguments: TrainArguments) -> Recipe:
    """The recipe that a command line names, with what it replaces.

    Raises:
        BadInput: a number is out of its range.
    """
    replaced: dict[str, Any] = dict(arguments.replaced)
    named = RECIPES[arguments.recipe]
    if arguments.weight_decay is not None:
        decay = arguments.weight_decay
        replaced["steps"] = tuple(
            replace(step, weight_decay=decay) if step.weight_decay else step for step in named.steps
        )
    return replace(named, **replaced)


def adapted(data: Dataset, arguments: TrainArguments) -> Dataset:
    """A data set with the augmentation and the normalisation that a command line asks for.

    Raises:
        BadInput: images in files are to be padded or left unmirrored, or there is not one number for each channel.
    """
    changes: dict[str, Any] = {
        key: value for key, value in (("padding", arguments.padding), ("flip", arguments.flip)) if value is not None
    }
    train = data.train
    if changes:
        if not isinstance(train, Stored):
            raise BadInput("--padding and --flip are for images in memory: those in files are cropped and resized")
        train = replace(train, augmentation=replace(train.augmentation, **changes))
    return normalised(replace(data, train=train), arguments.mean, arguments.std)


def normalised(data: Dataset, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Dataset:
    """A data set with another normalisation, of which None stays as it is.

    Raises:
        BadInput: there is not one number for each channel.
    """
    normal = data.normalisation
    for key, value in (("mean", mean), ("std", std)):
        if value is None:
            continue
        if len(value) not in (1, data.train.shape[0]) or (key == "std" and min(value) <= 0):
            raise BadInput(f"--{key} {','.join(map(str, value))}: 1 or {data.train.shape[0]} numbers (of std: above 0)")
        normal = replace(normal, **{key: value})
    return replace(data, normalisation=normal)
