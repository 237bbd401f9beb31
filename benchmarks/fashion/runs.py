"""One run: built or compiled, measured, trained, verified, measured again."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto
from torch import Tensor

from benchmarks.fashion.networks import original
from benchmarks.fashion.settings import Budget, Result, Setting
from reptran_compiler import compile_model
from reptran_compiler.costs import count
from reptran_compiler.errors import BadInput
from reptran_compiler.gate import verify_pair
from reptran_compiler.model.writing import write_model
from reptran_compiler.runtime import Level, Session
from reptran_compiler.training import calibrate, rescale, settle, spread, to_onnx, to_torch
from reptran_compiler.training.curve import Observer
from reptran_compiler.training.data import Augmentation, Dataset, Examples, Stored, evaluation_batches, read_dataset
from reptran_compiler.training.processes import Processes
from reptran_compiler.training.trainer import train

#: Where Debian's package has the images.
DATA = Path("/usr/share/datasets/fashion-mnist")


def images(folder: Path, budget: Budget) -> Dataset:
    """The data set with as many training images as are used.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    if not folder.exists():
        where = "install Debian's package dataset-fashion-mnist, or name a folder with its files by --data"
        raise BadInput(f"there is no data set at {folder}: {where}")
    data = read_dataset(folder)
    used = replace(_first(data.train, budget.images), augmentation=Augmentation(budget.padding, flip=False))
    return replace(data, train=used)


def _first(examples: Examples, count: int) -> Stored:
    assert isinstance(examples, Stored)
    return replace(examples, images=examples.images[:count], labels=examples.labels[:count])


def accuracy(model: ModelProto, data: Dataset) -> float:
    """The share of the test images that onnxruntime has right."""
    session, right = Session(model, level=Level.ALL), 0
    for shown, labels in evaluation_batches(data, 500, Processes()):
        logits = session.run({model.graph.input[0].name: shown.numpy()})[session.output_names[0]]
        right += int((logits.argmax(1) == labels.numpy()).sum())
    return right / len(data.test.labels)


def fresh(setting: Setting, budget: Budget, batch: Tensor) -> ModelProto:
    """An original to begin with, with statistics of data.

    Without them its normalisations divide by 1, the compiler folds that, and Rep networks would begin with maps as
    large as the sums of their signs, where the original, which normalises as it is trained, begins with 1.
    """
    network = to_torch(original(setting.network, budget.width, setting.seed))
    calibrate(network, [batch])
    return to_onnx(network)


def perform(setting: Setting, budget: Budget, data: Dataset, folder: Path, observe: Observer | None = None) -> Result:
    """A run, taken up where it was interrupted; one that is finished is not run again.

    The folder gets `SETTING.json`, the result; `SETTING.onnx`, the trained network; `SETTING-begun.onnx`, the one that
    it was trained from; and `SETTING.pt`, the checkpoint.

    Raises:
        RuntimeError: the Rep network that was written does not pass `verify_pair`.
        BadInput: the folder holds a run with another budget.
    """
    known = folder / f"{setting}.json"
    if known.exists():
        return Result.load(known, budget)
    shown = data.train.take(np.arange(min(budget.calibrated, budget.images)), None)
    batch = torch.from_numpy(data.normalisation(shown))
    source = onnx.load(str(folder / f"{setting.source}.onnx")) if setting.trained else fresh(setting, budget, batch)
    begun = source if setting.beta == 1 else compile_model(source, setting.beta).model
    write_model(begun, str(folder / f"{setting}-begun.onnx"))
    network = to_torch(begun)
    calibrate(network, [batch])
    measured = to_onnx(network)
    if budget.magnitude:
        rescale(network, budget.magnitude)
    spread(network, budget.spread)
    start = time.monotonic()
    rows = train(
        network,
        replace(data, test=_first(data.test, budget.watched)),
        budget.recipe(setting.seed),
        checkpoint=folder / f"{setting}.pt",
        resume=True,
        observe=observe,
    )
    seconds = time.monotonic() - start
    settle(network, batch)
    trained, file = to_onnx(network), folder / f"{setting}.onnx"
    if setting.beta > 1:
        checked = verify_pair(source, trained, retrained=True)
        if not checked.passed:
            raise RuntimeError(f"{setting}: {checked.failures[0]}")
    write_model(trained, str(file))
    costs = count(network.blueprint.model)
    result = Result(
        setting=setting,
        budget=budget,
        parameters=costs.trainable,
        macs=costs.total_macs,
        begun=accuracy(begun, data),
        calibrated=accuracy(measured, data),
        accuracy=accuracy(onnx.load(str(file)), data),
        curve=tuple(row.test_accuracy for row in rows),
        seconds=seconds,
    )
    result.save(known)
    return result
