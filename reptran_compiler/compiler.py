"""The compiler as a function, with the options of the command line as its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from reptran_compiler.compilation import Compilation, CompileResult
from reptran_compiler.errors import BadInput, CompileError, NothingToDo, VerificationFailed
from reptran_compiler.outputs import Outputs, PathLike
from reptran_compiler.pipeline import Options, Refusal
from reptran_compiler.reporting import Step, silent
from reptran_compiler.rewriting import Rule

__all__ = [
    "BadInput",
    "CompileError",
    "CompileResult",
    "NothingToDo",
    "Options",
    "Refusal",
    "VerificationFailed",
    "compile_model",
]


def compile_model(
    model: ModelProto | PathLike,
    beta: int = 2,
    *,
    output: PathLike | None = None,
    scope: str = "network",
    fc: str = "widen",
    bn: str = "fold",
    weights: str = "latent",
    repeat: str = "tile",
    sign_zero: str = "keep",
    optimize: str = "none",
    cpu: str = "vnni",
    classifier: str = "float",
    emit: str = "onnx",
    target: str = "any",
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    strict: bool = False,
    passes: Sequence[str] | None = None,
    rules: Sequence[str | Rule] = (),
    verify: bool = True,
    quick: bool = False,
    dry_run: bool = False,
    external_data: bool = False,
    dump_dir: PathLike | None = None,
    map_file: PathLike | None = None,
    report_file: PathLike | None = None,
    dims: Mapping[str, int] | None = None,
    batches: Sequence[int] | None = None,
    threads: int = 1,
    reproducer: PathLike | None = None,
    paranoid: bool = False,
    rule_seconds: float = 60.0,
    seed: int = 0,
    progress: Step = silent,
) -> CompileResult:
    """Bring a binary network into its RepTran form.

    Args:
        model: a model, or the file that it is in ("-" for standard input). It is not changed.
        beta: the replication factor, at least 1; 1 gives the source back, lowered where `optimize` asks for that.
        output: the file to write the result to ("-" for standard output); None to write none.
        scope: "network", or "layer" for drop-in layers between maps of the source's width.
        fc: "widen" the classifier, or "fold" the copies in front of it.
        bn: "fold" BatchNormalization into scale and bias, or "keep" its nodes, wide.
        weights: "latent" keeps real-valued weights with their Sign in the graph, "binary" stores +-1, "packed" does so
            in a bit each.
        repeat: replication written as "tile", "concat" (of a map with itself) or "expand" (and Reshape).
        sign_zero: "keep" Sign, which is 0 at 0, or "plus": each Sign of the source is made +1 there.
        optimize: "none", or the result lowered for onnxruntime: "float" has cheaper operators, "int8" computes binary
            layers in integers, "auto" chooses per layer. Weights are stored as +-1 then.
        cpu: what "auto" chooses for: "vnni", a processor with AVX-512 VNNI, or "avx2", one with AVX2 alone. The machine
            that compiles is not asked.
        classifier: "float", or "int8" to round the classifier's weights to eight bits with a scale for each output
            channel, which changes what is computed.
        emit: "onnx", or "qonnx": binarisations as BipolarQuant, quantisers as Quant, data types of weights stated.
        target: "packed" to be told what kernels of one bit cannot represent; "any".
        exclude: regular expressions; layers whose node names match stay as they are.
        include: regular expressions; layers whose node names match are rewritten though their input is
            narrow.
        strict: whether a boundary is an error.
        passes: the passes to run, in this order; None for the built-in order.
        rules: further rules, or Python files with such.
        verify: whether to verify. Results that were not say so in their metadata.
        quick: whether to verify quickly: every required pair once, at one batch size. The summary and the metadata say
            so.
        dry_run: whether to do everything but writing `output`.
        external_data: whether to write the weights to a file of their own, `OUTPUT.DIGEST.data`, where DIGEST is the
            beginning of its sha256.
        dump_dir: a folder for the canonical source, the specification and the graph after each pass.
        map_file: a JSON file that says where each weight went.
        report_file: a JSON file for the summary. It is written where verification fails, too.
        dims: sizes for runs of dynamic axes other than the batch, by the axis' name, or as "INPUT:AXIS".
        batches: batch sizes to verify with; 2 and 3 when absent.
        threads: threads of onnxruntime.
        reproducer: a new or empty folder, to which a failure writes the smallest model that shows it, with a script.
        paranoid: whether rules are called in the test mode: slower, it finds rules that do something else than they
            report, and those that do another thing when they are called again.
        rule_seconds: how long each function of a rule may take.
        seed: of the numbers that it is verified with; the result does not depend on it.
        progress: told what is being done.

    Returns:
        The result. Where `output` is given it has been written.

    Raises:
        BadInput: the options or the files cannot be used, or the model does not run (exit code 2).
        Refusal: the model cannot be rewritten as asked (its `exit_code` says which).
        NothingToDo: the model is a Rep network already (exit code 1).
        VerificationFailed: the result is wrong; nothing was written (exit code 3).
    """
    options = Options(
        beta=beta,
        scope=scope,
        fc=fc,
        bn=bn,
        weights=weights,
        repeat=repeat,
        sign_zero=sign_zero,
        optimize=optimize,
        cpu=cpu,
        classifier=classifier,
        emit=emit,
        exclude=tuple(exclude),
        include=tuple(include),
        strict=strict,
        passes=None if passes is None else tuple(passes),
        rules=tuple(rules),
        paranoid=paranoid,
        rule_seconds=rule_seconds,
    )
    compilation = Compilation(
        model=model,
        options=options,
        outputs=Outputs(output, map_file, report_file, dump_dir, external_data, dry_run),
        dims=dims,
        batches=batches,
        threads=threads,
        target=target,
        seed=seed,
        verify=verify,
        quick=quick,
        step=progress,
    )
    if reproducer is None:
        return compilation.run()
    from reptran_compiler.reproducer import check_folder, write_reproducer

    check_folder(reproducer)
    try:
        return compilation.run()
    except Exception as error:
        write_reproducer(compilation, error, reproducer)
        raise
