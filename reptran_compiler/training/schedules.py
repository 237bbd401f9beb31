"""What changes from epoch to epoch: the learning rate."""

from __future__ import annotations

import math

from reptran_compiler.training.recipe import Recipe


def rate(recipe: Recipe, epoch: int) -> float:
    """The learning rate in an epoch of a step, counted from 0.

    It rises to `recipe.rate` in `warmup` epochs, in as many equal parts (in a quarter of the epochs at most). From
    there it falls, t being the share of the remaining epochs that are over: linear, as 1 - t; cosine, as
    (1 + cos(pi t)) / 2 (Loshchilov and Hutter, arXiv 1608.03983).

    The cosine is that of ReCU's cifar/main.py, warm-up included. The linear one is that of ReActNet's and AdamBNN's
    train.py an epoch later: theirs begins below the rate and trains its last epoch at 0.
    """
    warmup = min(recipe.warmup, recipe.epochs // 4)
    if epoch < warmup:
        return recipe.rate * (epoch + 1) / warmup
    before = max(warmup - 1, 0)
    over = (epoch - before) / (recipe.epochs - before)
    return recipe.rate * (1 - over if recipe.schedule == "linear" else (1 + math.cos(math.pi * over)) / 2)
