"""What all runs of one judgement share: the source, the options, and sessions that can be used again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto

from reptran_compiler.runtime import Level, Session, TensorFact
from reptran_compiler.verification.cutpoints import data_tensors
from reptran_compiler.verification.cutting import cut_part, part
from reptran_compiler.verification.protograph import ProtoGraph
from reptran_compiler.verification.specification import Specification, SpecOptions

Array = NDArray[Any]
Facts = Mapping[str, TensorFact]


class Context:
    """See the module.

    Args:
        canonical: the source in canonical form.
        options: what the compiler was asked for.
        seed: of everything random.
        dims: sizes of dynamic axes other than the batch.
        threads: threads of onnxruntime.
        level: how far onnxruntime may rewrite what is compared.
        stored: the type that constants were rounded to, where that is a smaller one than what is computed in.
    """

    def __init__(
        self,
        canonical: ModelProto,
        options: SpecOptions,
        seed: int,
        dims: Mapping[str, int] | None,
        threads: int,
        level: Level,
        stored: str | None = None,
    ) -> None:
        self.source = ProtoGraph(canonical)
        self.options, self.seed, self.dims = options, seed, dims
        self.threads, self.level, self.stored = threads, level, stored
        self.data = data_tensors(self.source)
        self._spec_session: tuple[object, Session] | None = None
        self._result_session: tuple[object, Session] | None = None

    def spec_session(self, spec: Specification, outputs: Sequence[str]) -> Session:
        """A session on S; that of the batch before when S did not change."""
        key = (spec.skeleton.SerializeToString(deterministic=True), tuple(outputs))
        if self._spec_session is None or self._spec_session[0] != key:
            model, weights = self.spec_model(spec, outputs), self.weights(self.source)
            self._spec_session = (key, Session(model, threads=self.threads, level=self.level, weights=weights))
        return self._spec_session[1]

    def weights(self, graph: ProtoGraph) -> Mapping[str, Array]:
        """What of a graph's constants sessions share: none where onnxruntime may rewrite what is computed with them."""
        return graph.weights if self.level is Level.DISABLE else {}

    def spec_model(self, spec: Specification, outputs: Sequence[str]) -> ModelProto:
        """S as far as some of its tensors depend on it, without the source's large weights."""
        return part(spec.bare, self.source.initializers, outputs, self.weights(self.source))

    def result_session(
        self, result: ProtoGraph, names: Mapping[str, str], facts: Facts, outputs: Sequence[str]
    ) -> Session:
        """A session on the cut result; that of the batch before when the cuts did not change."""
        key = (tuple(names), tuple(outputs))
        if self._result_session is None or self._result_session[0] != key:
            weights = self.weights(result)
            model = cut_part(result, names, facts, outputs, weights)
            self._result_session = (key, Session(model, threads=self.threads, level=self.level, weights=weights))
        return self._result_session[1]
