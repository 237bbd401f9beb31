"""OpenCV's dnn module."""

from __future__ import annotations

from pathlib import Path

import cv2

from benchmarks.backends.calling import Array, Arrays, Run


def prepare(file: Path, inputs: Arrays) -> Run:
    """Load a model."""
    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromONNX(str(file))

    def run(given: Arrays) -> list[Array]:
        for name, value in given.items():
            net.setInput(value, name)
        return list(net.forward(net.getUnconnectedOutLayersNames()))

    return run
