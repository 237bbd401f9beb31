"""Rules that edit the graph that they should only read, or keep what they were given."""

from __future__ import annotations

from benchmarks.careless.entries import RIGHT, Careless, End, careless

_IN_PLACE = "in place: build a new one with g.node"
_AWAY = "which is not of the match"
_ADDS = "adds or drops operators of the graph itself"

EDITS: tuple[Careless, ...] = (
    careless("edits the graph", "edits-while-matching", "a test in its pattern edits an operator, and says no", _AWAY,
             above="def spoil(t):\n    for node in t.outputs: node.attrs['axis'] = 1\n    return False",
             pattern="return p.Relu(p.any('x', test=spoil), name='relu')", paranoid=End(1, _IN_PLACE)),
    careless("edits the graph", "edits-then-declines", "check edits its match, and turns it down", _IN_PLACE,
             check="m.relu.attrs['alpha'] = 0.5\nm.require(False, 'no')"),
    careless("edits the graph", "edits-an-attribute", "it edits an attribute in place", _IN_PLACE,
             pattern="return p.BatchNormalization(x, *p.consts('s b mean var'), name='bn')",
             rewrite="m.bn.attrs['epsilon'] = 0.5\nreturn m.bn.outputs[0]"),
    careless("edits the graph", "edits-an-operand", "it gives the matched operator another operand", _IN_PLACE,
             rewrite="m.relu.inputs[0] = g.node('Abs', [m.x]).outputs[0]\nreturn m.relu.outputs[0]"),
    careless("edits the graph", "unlinks-its-match", "it takes the matched operator apart", _IN_PLACE,
             rewrite=f"m.relu.inputs.clear()\n{RIGHT}"),
    careless("edits the graph", "edits-a-reader", "it edits an operator that reads the match", _IN_PLACE,
             rewrite=f"for reader in m.relu.outputs[0].outputs: reader.attrs['axis'] = 2\n{RIGHT}"),
    careless("edits the graph", "edits-elsewhere", "it edits an operator far from its match", _AWAY,
             rewrite="next(n for n in g.nodes if n.op == 'Gemm').attrs['alpha'] = 0.5\n" + RIGHT,
             paranoid=End(1, _IN_PLACE)),
    careless("edits the graph", "rewires-elsewhere", "it gives an operator elsewhere another operand", _AWAY,
             rewrite="pool = next(n for n in g.nodes if n.op == 'GlobalAveragePool')\npool.inputs[0] = g.inputs[0]\n"
             + RIGHT, paranoid=End(1, _IN_PLACE)),
    careless("edits the graph", "renames-a-tensor", "it renames a tensor", "in place|another one is called",
             rewrite=f"m.x.name = 'renamed'\n{RIGHT}"),
    careless("edits the graph", "renames-an-output", "it renames a graph output",
             "renames the graph's input or output 'y'",
             rewrite=f"g.outputs[0].name = 'probabilities'\n{RIGHT}"),
    careless("edits the graph", "drops-an-output", "it drops a graph output", "edits the graph's inputs or outputs",
             rewrite=f"g.outputs.pop()\n{RIGHT}"),
    careless("edits the graph", "adds-an-output", "it makes a tensor a graph output",
             "edits the graph's inputs or outputs",
             rewrite=f"g.outputs.append(m.x)\n{RIGHT}"),
    careless("edits the graph", "drops-a-node", "it removes an operator from the graph", _ADDS,
             rewrite=f"g.nodes.remove(m.relu)\n{RIGHT}"),
    careless("edits the graph", "adds-a-node", "it appends an operator to the graph", _ADDS,
             rewrite="made = g.node('Max', [m.x, g.constant('zero', np.float32(0))])\ng.nodes.append(made)\n"
             "return made.outputs[0]"),
    careless("edits the graph", "commits-itself", "it does the engine's work: replaces, adopts, tidies",
             "adds or drops operators of the graph itself",
             rewrite="new = g.node('Max', [m.x, g.constant('zero', np.float32(0))]).outputs[0]\n"
             "g.replace(m.relu.outputs[0], new)\ng.adopt(g.since(0))\ng.tidy()\nreturn new"),
    careless("edits the graph", "builds-by-hand", "it builds an operator without g.node",
             "operators are built with g.node",
             rewrite="out = Variable('made')\nNode('Max', 'made', {}, [m.x, g.constant('zero', np.float32(0))], "
             "[out])\nreturn out"),
    careless("edits the graph", "edits-opsets", "it raises the model's opset", "edits the model's opset imports",
             rewrite=f"g.model.opset_import[0].version = 20\n{RIGHT}"),
    careless("edits the graph", "edits-values", "it edits stored values in place", "read-only",
             pattern="return p.Mul(x, p.const('k'), name='relu')", rewrite="m.k.values[...] *= 2\nreturn m.x"),
    careless("edits the graph", "unlocks-values", "it makes stored values writeable", "cannot set WRITEABLE flag",
             pattern="return p.Mul(x, p.const('k'), name='relu')",
             rewrite="m.k.values.flags.writeable = True\nm.k.values[...] *= 2\nreturn m.root.outputs[0]"),
    careless("edits the graph", "assigns-values", "it assigns a stored tensor's values", "no setter|can't set",
             pattern="return p.Mul(x, p.const('k'), name='relu')", rewrite="m.k.values = m.k.values * 2\nreturn m.x"),
    careless("edits the graph", "edits-known-values", "it edits the values that m.facts computed", "read-only",
             rewrite="v = m.facts.value(g.node('Neg', [g.constant('one', np.ones(3))]).outputs[0])\nv *= 2\n" + RIGHT),
    careless("edits the graph", "edits-the-source", "it edits the file's own node", ".source is for reading alone",
             rewrite="next(n for n in g.nodes if n.op == 'Gemm').source.attribute[0].i = 0\n" + RIGHT),
    careless("edits the graph", "edits-stored-bytes", "it edits the file's own stored tensor",
             "edits the source model itself", engine=False,
             pattern="return p.Mul(x, p.const('k'), name='relu')",
             check="m.k.source.raw_data = (2 * m.k.values).tobytes()\nm.require(False, 'no')"),
)  # fmt: skip

_GONE = "which is no part of the graph any more: keep nothing between matches"
_KEPT = "kept = []"

REFERENCES: tuple[Careless, ...] = (
    careless("keeps references", "returns-an-older-tensor", "it returns what it wrote for another match",
             "breaks its declaration", above=_KEPT,
             rewrite=f"{RIGHT.replace('return ', 'kept.append(')})\nreturn kept[0]",
             paranoid=End(1, "writes something else when it is called a second time")),
    careless("keeps references", "reads-the-dead", "it reads a tensor of an operator that an earlier match replaced",
             _GONE,
             above=_KEPT, rewrite="kept.append(m.relu.outputs[0])\nread = kept[0] if len(kept) > 1 else m.x\n"
             "return g.node('Max', [read, g.constant('zero', np.float32(0))]).outputs[0]",
             paranoid=End(1, "writes something else when it is called a second time")),
    careless("keeps references", "reuses-its-own", "it builds on an operator of a match that it turned down",
             "which nothing makes",
             above=_KEPT,
             rewrite="kept.append(g.node('Max', [m.x, g.constant('zero', np.float32(0))]).outputs[0])\n"
             "m.require(len(kept) > 1, 'waits')\nreturn g.node('Relu', [kept[0]]).outputs[0]"),
    careless("keeps references", "edits-later", "it edits the operators of an earlier match", _AWAY, above=_KEPT,
             pattern="return p.BatchNormalization(x, *p.consts('s b mean var'), name='bn')",
             check="for bn in kept: bn.attrs['epsilon'] = 0.5\nkept.append(m.bn)\nm.require(False, 'waits')",
             paranoid=End(1, _IN_PLACE)),
    careless("keeps references", "edits-in-a-thread", "a thread that it starts edits the graph", _AWAY,
             check="g = m.graph\ndef later():\n    next(n for n in g.nodes if n.op == 'Gemm').attrs['alpha'] = 0.5\n"
             "thread = threading.Thread(target=later)\nthread.start()\nthread.join()\nm.require(False, 'no')",
             paranoid=End(1, _IN_PLACE)),
    careless("keeps references", "counts-calls", "it does something else at every second call", code=0,
             above=_KEPT, rewrite="kept.append(1)\nzero = g.constant('zero', np.float32(0))\n"
             "read = [m.x, zero] if len(kept) % 2 else [zero, m.x]\nreturn g.node('Max', read, like=m.relu).outputs[0]",
             paranoid=End(1, "writes something else when it is called a second time"),
             note="both are right; the test mode finds it"),
    careless("keeps references", "declines-at-random", "its check says no at every second call", code=0, above=_KEPT,
             check="kept.append(1)\nm.require(len(kept) % 2 == 1, 'not now')",
             paranoid=End(1, "turns down at a second call what it took at the first"),
             note="what it does is right; the test mode finds it"),
)  # fmt: skip
