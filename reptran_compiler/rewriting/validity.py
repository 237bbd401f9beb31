"""Whether what a rule wrote can be part of the graph: what it reads is there, no circle closes, names are its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reptran_compiler.model import Constant, Graph, Node, Tensor, Variable
from reptran_compiler.rewriting.patterns import Match


def flaw(found: Match, new: Sequence[Tensor], *, names: bool = True) -> str:
    """Why what a rule wrote beside the graph cannot take the place of a match, in words; empty where it can.

    Args:
        found: the match.
        new: what shall take the places of its root's outputs.
        names: whether to look for tensors of one name.
    """
    graph = found.graph
    beside = {id(node): node for node in graph.beside}
    written = _written(new, beside)
    inside = {id(node) for node in found.nodes}
    for node in written:
        for tensor in node.inputs:
            words = _unreadable(tensor, graph, beside)
            if words:
                return f"{node.op_type} {node.name!r} reads {words}"
    read = [tensor for node in written for tensor in node.inputs] + list(new)
    operands = {id(tensor) for node in found.nodes for tensor in node.inputs}
    outer = [t for t in read if t.inputs and id(t.inputs[0]) not in beside and id(t) not in operands]
    circle = _circle(written, beside) or _behind(found.root, [t for t in outer if id(t.inputs[0]) not in inside])
    return circle or (_taken_name(found, written) if names else "")


def _written(new: Sequence[Tensor], beside: Mapping[int, Node]) -> list[Node]:
    """The operators beside the graph that some tensors need."""
    found: dict[int, Node] = {}
    stack = [maker for tensor in new for maker in tensor.inputs]
    while stack:
        node = stack.pop()
        if id(node) in beside and id(node) not in found:
            found[id(node)] = node
            stack += [maker for tensor in node.inputs for maker in tensor.inputs]
    return list(found.values())


def _unreadable(tensor: Tensor, graph: Graph, beside: Mapping[int, Node]) -> str:
    if not isinstance(tensor, (Variable, Constant)):
        return f"a {type(tensor).__name__}, which is no tensor of the graph"
    if isinstance(tensor, Constant) or not tensor.name:
        return ""
    if tensor.inputs:
        gone = tensor.inputs[0].gone and id(tensor.inputs[0]) not in beside
        return f"{tensor.name!r}, which is no part of the graph any more: keep nothing between matches" if gone else ""
    known = tensor.name in graph.pinned or any(tensor is each for each in graph.inputs)
    return "" if known else f"{tensor.name!r}, which nothing makes"


def _circle(written: Iterable[Node], beside: Mapping[int, Node]) -> str:
    """Which of the operators that a rule wrote needs its own output, in words."""
    done: set[int] = set()
    for start in written:
        path: set[int] = set()
        stack = [(start, False)]
        while stack:
            node, left = stack.pop()
            if left:
                path.discard(id(node))
                done.add(id(node))
            elif id(node) in path:
                return f"{node.op_type} {node.name!r} needs its own output: a circle"
            elif id(node) not in done:
                path.add(id(node))
                stack.append((node, True))
                stack += [(m, False) for t in node.inputs for m in t.inputs if id(m) in beside and id(m) not in done]
    return ""


def _behind(root: Node, read: Iterable[Tensor]) -> str:
    """Which of some tensors is computed from what a match's root makes, in words."""
    clear: set[int] = set()
    for tensor in read:
        stack = list(tensor.inputs)
        while stack:
            node = stack.pop()
            if node is root:
                return f"it reads {tensor.name!r}, which is computed from what it replaces: a circle"
            if id(node) not in clear:
                clear.add(id(node))
                stack += [maker for each in node.inputs for maker in each.inputs]
    return ""


def _taken_name(found: Match, written: Sequence[Node]) -> str:
    """Which operator or tensor that a rule made has the name of another one, in words."""
    graph = found.graph
    own = {node.name for node in found.nodes} | graph.recent
    labels = {node.name for node in written} - own
    label = next((node.name for node in graph.nodes if labels and node.name in labels and not node.gone), None)
    if label is not None:
        return f"it calls an operator {label!r}, as another one is called: names come from g.node"
    made = {id(t): t for node in written for t in node.outputs if t.name}
    made |= {id(t): t for node in written for t in node.inputs if isinstance(t, Constant)}
    names = {tensor.name for tensor in made.values()}
    if len(names) == len(made) and names <= graph.recent:
        return ""
    owners: dict[str, int] = {}
    nodes = (node for node in (*graph.nodes, *written) if not node.gone)
    of_nodes = (tensor for node in nodes for tensor in (*node.inputs, *node.outputs))
    for tensor in (*graph.inputs, *graph.outputs, *of_nodes):
        twice = tensor.name and owners.setdefault(tensor.name, id(tensor)) != id(tensor)
        if twice and (id(tensor) in made or owners[tensor.name] in made):
            hint = "names come from g.node and g.constant"
            return f"it calls a tensor {tensor.name!r}, as another one is called: {hint}"
    return ""
