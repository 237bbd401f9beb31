"""A zoo of binary neural networks in torch, each written from its paper, and each in its RepTran form as
well.

    import models
    original = models.build("bireal-18")             # the paper's network, parameters drawn from a seed
    wide = models.build("bireal-18", beta=2)         # its RepTran form: same weights, maps twice as wide
    file = models.export(original, "bireal.onnx", models.VARIANTS["torchscript"])

    # Compare a compiled file with the RepTran form in torch: do the file's fusions to the original first.
    fused = models.fuse(original, models.fused_norms(original, file))
    wide = models.rep_form(fused, beta=2)
    where = models.binarisations(original, file)     # the tensors in front of and behind each binarisation
    run = models.trace(wide, images, forced=maps)    # run.before[i] is what entered binarisation run.names[i]

This package imports nothing of the compiler: it is what compiled files are compared with."""

from models.exporting import VARIANTS, Variant, export
from models.fusing import fuse, norm_names
from models.reading import Binarised, binarisations, fused_norms
from models.tracing import Trace, trace
from models.zoo import ZOO, Entry, Plan, build, inherit, plan, plan_of, rep_form

__all__ = [
    "VARIANTS",
    "ZOO",
    "Binarised",
    "Entry",
    "Plan",
    "Trace",
    "Variant",
    "binarisations",
    "build",
    "export",
    "fuse",
    "fused_norms",
    "inherit",
    "norm_names",
    "plan",
    "plan_of",
    "rep_form",
    "trace",
]
