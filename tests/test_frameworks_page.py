"""What docs/frameworks.md says of files and of export scripts is so. Its commands are run by test_docs.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from test_docs import DOCS, ROOT, blocks

from benchmarks.spellings import spellings
from models.toolchains.fixtures import fixtures, load

PAGE = DOCS / "frameworks.md"
QUOTES = [block.text for block in blocks(PAGE) if block.kind == "py"]
#: What users do themselves where a script hands the model on.
_SAVING = "onnx.save"


@pytest.mark.parametrize("text", QUOTES, ids=lambda text: text.splitlines()[0].rpartition("/")[2])
def test_calls_stand_in_the_export_scripts(text: str) -> None:
    """Imports, assigned values and calls, but for names of files and for keywords that the page leaves out."""
    name = re.match(r"# (models/\S+\.py)\n", text)
    assert name is not None, f"of which script is this?\n{text}"
    script, shown = ast.parse((ROOT / name[1]).read_text()), ast.parse(text)
    assert set(_imports(shown)) - {"import onnx"} <= set(_imports(script))
    expressions = {ast.unparse(node) for node in ast.walk(script) if isinstance(node, ast.expr)}
    values = [node.value for node in ast.walk(shown) if isinstance(node, ast.Assign)]
    assert {ast.unparse(value) for value in values if not isinstance(value, ast.Call)} <= expressions
    calls = [call for call in _calls(shown) if ast.unparse(call.func) != _SAVING]
    assert calls, "a quote shows a call"
    for call in calls:
        assert any(_covers(each, call) for each in _calls(script)), f"{name[1]} does not call {ast.unparse(call)}"


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {each.name}" for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"from {node.module} import {each.name}" for each in node.names)


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _covers(call: ast.Call, shown: ast.Call) -> bool:
    """Whether a call is the one that is shown."""
    if ast.unparse(call.func) != ast.unparse(shown.func) or len(call.args) != len(shown.args):
        return False
    keywords = {each.arg: each.value for each in call.keywords}
    pairs = list(zip(call.args, shown.args, strict=True))
    pairs += [(keywords.get(each.arg, ast.Constant(None)), each.value) for each in shown.keywords]
    return all(_file(two) or ast.unparse(one) == ast.unparse(two) for one, two in pairs)


def _file(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and str(value.value).startswith("network")


def test_the_files_are_as_the_table_counts_them() -> None:
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\S+)` (\|.*\|)$", page, re.MULTILINE))
    used = re.findall(r"xz -dc models/toolchains/files/(\S+)\.onnx\.xz", page)
    assert list(rows) == ["reactnet-tiny", *used]
    tiny = onnx.load(str(ROOT / "models" / "files" / "reactnet-tiny.onnx"))
    assert rows == {"reactnet-tiny": _counted(tiny), **{name: _counted(load(name).model) for name in used}}


def _counted(model: onnx.ModelProto) -> str:
    """A file's row."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    (given,) = [value for value in graph.input if value.name not in stored]
    sizes = [str(axis.dim_value or "N") for axis in given.type.tensor_type.shape.dim]
    (opset,) = [entry.version for entry in model.opset_import if not entry.domain]
    binary = sum(int(found[1]) for each in spellings(model) if (found := re.match(r"(\d+) x stored", each)))
    norms = sum(node.op_type == "BatchNormalization" for node in graph.node)
    defaults = sum(value.name in stored for value in graph.input)
    return f"| {opset} | {' x '.join(sizes)} | {defaults} | {binary} | {norms} |"


def test_dynamo_stores_binary_weights_of_up_to_8192_elements() -> None:
    """What a layer reads as it is stored has at most that many; a latent tensor in front of a Sign has more."""
    stored, latent = [], []
    for name in fixtures():
        if name.startswith(("bitorch/", "bnn/")) and name.endswith("-dynamo"):
            graph = load(name).model.graph
            sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
            stored += [sizes[node.input[1]] for node in graph.node if node.op_type == "Conv" and node.input[1] in sizes]
            latent += [sizes[node.input[0]] for node in graph.node if node.op_type == "Sign" and node.input[0] in sizes]
    assert max(stored) == 8192 < min(latent)
