"""The bodies of If, Loop and Scan, and what they read of the graph around them."""

from __future__ import annotations

from onnx import AttributeProto, GraphProto, NodeProto


def bodies(node: NodeProto) -> list[GraphProto]:
    """The subgraphs that a node holds."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        if attribute.graphs:
            found += attribute.graphs
    return found


def captured(node: NodeProto) -> list[str]:
    """The names that a node's subgraphs read, those that they make themselves included; often with repeats."""
    return [name for body in bodies(node) for name in _read_by(body)]


def _read_by(body: GraphProto) -> list[str]:
    names = [name for node in body.node for name in (*node.input, *captured(node))]
    return [*names, *(value.name for value in body.output)]
