"""A rule: fuse `Mul` by a constant into the BatchNormalization behind it."""

import numpy as np

from reptran_compiler.rewriting import preserves, rule


@rule("fuse-mul", effect=preserves(), order=60)
class FuseMul:
    """`BN(x * k)` becomes a BatchNormalization of x alone."""

    def pattern(p, x):
        scaled = p.Mul(x, p.const("k"))
        return p.BatchNormalization(scaled, *p.consts("gamma beta mean var"), name="bn")

    def check(m):
        m.require(not m.bn.attrs.get("training_mode", 0), "runs in training mode")
        m.require(m.k.values.shape in ((), (1, m.gamma.values.size, 1, 1)), "is no scale per channel", m.k)

    def rewrite(m, g):
        epsilon = m.bn.attrs.get("epsilon", 1e-5)
        slope = m.gamma.values / np.sqrt(m.var.values + epsilon)
        gamma = g.constant("gamma", m.gamma.values * m.k.values.reshape(-1))
        beta = g.constant("beta", m.beta.values - slope * m.mean.values)
        mean = g.constant("mean", np.zeros_like(m.mean.values))
        inputs = [m.x, gamma, beta, mean, m.var]
        return g.node("BatchNormalization", inputs, {"epsilon": epsilon}, like=m.bn).outputs[0]
