"""Training: an ONNX model as a network of torch modules, and back. It needs torch (`reptran-compiler[train]`)."""

from reptran_compiler.training.agreement import Agreement, agreement
from reptran_compiler.training.calibrating import calibrate
from reptran_compiler.training.latents import rescale
from reptran_compiler.training.network import Network, escape, unescape
from reptran_compiler.training.reading import to_torch
from reptran_compiler.training.settling import settle
from reptran_compiler.training.spreading import spread
from reptran_compiler.training.straight_through import ESTIMATORS, Sign, WeightSign
from reptran_compiler.training.verifying import verified
from reptran_compiler.training.writing import to_onnx

__all__ = [
    "ESTIMATORS",
    "Agreement",
    "Network",
    "Sign",
    "WeightSign",
    "agreement",
    "calibrate",
    "escape",
    "rescale",
    "settle",
    "spread",
    "to_onnx",
    "to_torch",
    "unescape",
    "verified",
]
