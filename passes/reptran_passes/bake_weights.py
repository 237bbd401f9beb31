"""`--weights binary`: the signs of latent weights are stored, the latent weights go."""

from __future__ import annotations

from typing import Any

from reptran_compiler.model import Constant, Graph, Tensor
from reptran_compiler.replication import binarised
from reptran_compiler.rewriting import Match, preserves, rule


@rule("bake-weights", effect=preserves(), phase="finish", order=20)
class BakeWeights:
    """The binarisation of a stored latent tensor becomes stored signs (only with --weights binary)."""

    def pattern(p: Any) -> Any:
        return p.op("Sign Where Sub")

    def check(m: Match) -> None:
        latent = binarised(m.root.outputs[0])
        m.require(isinstance(latent, Constant), "binarises no stored tensor")

    def rewrite(m: Match, g: Graph) -> Tensor:
        latent, out = binarised(m.root.outputs[0]), m.root.outputs[0]
        assert latent is not None, "`check` has seen it"
        stored = m.context.signs(latent, out, lambda: g.constant(f"{latent.name}/sign", m.facts.value(out)))
        return stored  # type: ignore[no-any-return]
