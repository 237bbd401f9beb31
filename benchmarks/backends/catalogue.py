"""The backends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


@dataclass(frozen=True)
class Backend:
    """A backend.

    Attributes:
        name: what it is called here, and the module in `adapters`.
        package: the distribution whose version is told.
        environment: the file in `requirements` that it is installed by; "" for one of its own name.
        batched: whether its networks have a batch axis.
    """

    name: str
    package: str
    environment: str = ""
    batched: bool = True

    @property
    def room(self) -> str:
        """The name of its environment."""
        return self.environment or self.name

    @property
    def requirement(self) -> str:
        """The pinned requirement of its package."""
        lines = (REQUIREMENTS / f"{self.room}.txt").read_text().splitlines()
        return next(line for line in lines if line.partition("==")[0] == self.package)


BACKENDS = (
    Backend("onnxruntime", "onnxruntime", "onnx"),
    Backend("reference", "onnx", "onnx"),
    Backend("onnxsim", "onnxsim", "onnx"),
    Backend("onnxslim", "onnxslim", "onnx"),
    Backend("openvino", "openvino"),
    Backend("opencv", "opencv-python-headless"),
    Backend("mnn", "mnn"),
    Backend("ncnn", "pnnx", batched=False),
    Backend("tract", "tract"),
    Backend("iree", "iree-base-compiler"),
    Backend("tvm", "apache-tvm"),
    Backend("onnx2tf", "onnx2tf"),
    Backend("tinygrad", "tinygrad"),
    Backend("onnx2torch", "onnx2torch"),
    Backend("emx", "emx-onnx-cgen"),
    Backend("qonnx", "qonnx"),
)
