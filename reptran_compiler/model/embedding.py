"""The data that a model refers to, embedded when the model is asked for."""

from __future__ import annotations

import os
from functools import cached_property

from onnx import ModelProto

from reptran_compiler.errors import BadInput
from reptran_compiler.model.referred import DESCRIPTORS, embedded, place_of, referred, set_place


class Embedding:
    """A model with all of its data in it, which is read from the files that it refers to when it is first asked for.

    They are held open, so that it does not matter if they are moved or removed meanwhile. Where the system does not
    list what is open, all is read at once.

    Args:
        model: the model.
    """

    def __init__(self, model: ModelProto) -> None:
        later = DESCRIPTORS.is_dir()
        self._model = model if later else embedded(model)
        self._files: dict[str, int] = {}
        for place in sorted({place_of(tensor) for tensor in referred(self._model)}):
            self._files[place] = os.open(place, os.O_RDONLY)
        self._stamps = {place: _stamp(file) for place, file in self._files.items()}

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)

    @cached_property
    def model(self) -> ModelProto:
        """The model.

        Raises:
            BadInput: a file was written to since.
        """
        for place, file in self._files.items():
            if _stamp(file) != self._stamps[place]:
                raise BadInput(f"{place} was changed since the model was compiled: compile it again")
        if not self._files:
            return self._model
        light = ModelProto()
        light.CopyFrom(self._model)
        for tensor in referred(light):
            set_place(tensor, str(DESCRIPTORS / str(self._files[place_of(tensor)])))
        return embedded(light)


def _stamp(file: int) -> tuple[int, int]:
    """What changes with the content of an open file."""
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns
