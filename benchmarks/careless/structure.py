"""Rules that write what is no graph: dangling inputs, circles, names that are taken, operators that do not run."""

from __future__ import annotations

from benchmarks.careless.entries import RIGHT, Careless, End, careless

_RUNS = "what it wrote does not run"
_NAMES = "as another one is called: names come from g.node and g.constant"
_ZERO = "zero = g.constant('zero', np.float32(0))"
_KIND = "invalid graph"

STRUCTURE: tuple[Careless, ...] = (
    careless(_KIND, "dangling-input", "it reads a tensor that nothing makes", "reads 'ghost', which nothing makes",
             rewrite="return g.node('Max', [m.x, Variable('ghost')]).outputs[0]"),
    careless(_KIND, "reads-behind", "it reads what is computed from its match", "a circle",
             rewrite=f"{_ZERO}\nlater = m.relu.outputs[0].outputs[0].outputs[0]\n"
             "gone = g.node('Mul', [later, zero]).outputs[0]\n"
             "return g.node('Max', [m.x, zero, gone]).outputs[0]"),
    careless(_KIND, "circle-of-its-own", "two operators that it wrote read each other",
             "needs its own output: a circle",
             rewrite="a = g.node('Neg', [m.x])\nb = g.node('Add', [m.x, a.outputs[0]])\na.inputs[0] = b.outputs[0]\n"
             "return b.outputs[0]"),
    careless(_KIND, "takes-a-name", "it gives its tensor the name of another one", _NAMES,
             rewrite=f"{_ZERO}\nmade = g.node('Max', [m.x, zero]).outputs[0]\nmade.name = 'y'\nreturn made"),
    careless(_KIND, "one-name-for-two", "it gives two of its tensors one name", _NAMES,
             rewrite=f"{_ZERO}\na = g.node('Max', [m.x, zero]).outputs[0]\nb = g.node('Max', [a, zero]).outputs[0]\n"
             "a.name = b.name = 'mine'\nreturn b"),
    careless(_KIND, "constant-by-hand", "it makes a stored tensor of a name that is taken", _NAMES,
             rewrite="return g.node('Max', [m.x, Constant('k', np.zeros(1, np.float32))]).outputs[0]"),
    careless(_KIND, "fresh-replaced", "it replaces g.fresh, so that names collide", _NAMES,
             rewrite=f"g.fresh = lambda hint: 'y'\n{RIGHT}"),
    careless(_KIND, "node-name-taken", "it gives its operator the name of another one", "as another one is called",
             rewrite=f"{_ZERO}\nmade = g.node('Max', [m.x, zero])\nmade.name = 'conv1'\nreturn made.outputs[0]"),
    careless(_KIND, "like-what-stays", "its operator is like the matched one, which stays", code=0,
             check="m.require(not any(n.op == 'Max' for n in m.relu.outputs[0].outputs), 'is done')",
             rewrite=f"{_ZERO}\nreturn g.node('Max', [m.relu.outputs[0], zero], like=m.relu).outputs[0]",
             note="it gets a name of its own"),
    careless(_KIND, "two-nodes-alike", "it calls two operators like the one that it replaces", code=0,
             rewrite=f"{_ZERO}\ninner = g.node('Max', [m.x, zero], like=m.relu).outputs[0]\n"
             "return g.node('Max', [inner, zero], like=m.relu).outputs[0]",
             note="the second one gets a name of its own"),
    careless(_KIND, "wrong-arity", "it gives an operator too many operands", _RUNS,
             rewrite="return g.node('Relu', [m.x, m.x]).outputs[0]"),
    careless(_KIND, "absent-operand", "it leaves out an operand that is needed", _RUNS,
             rewrite="return g.node('Add', [m.x, None]).outputs[0]"),
    careless(_KIND, "unknown-operator", "it writes an operator that there is not", _RUNS,
             rewrite="return g.node('Rectify', [m.x]).outputs[0]"),
    careless(_KIND, "newer-operator", "it writes an operator of a newer opset", _RUNS,
             rewrite="return g.node('Gelu', [m.x]).outputs[0]"),
    careless(_KIND, "domain-not-imported", "it writes an operator of a domain that the model does not import", _RUNS,
             rewrite="made = g.node('Rectify', [m.x])\nmade.domain = 'org.example'\nreturn made.outputs[0]"),
    careless(_KIND, "wrong-operand-type", "it mixes float and double", _RUNS,
             rewrite="return g.node('Max', [m.x, g.constant('zero', np.float64(0))]).outputs[0]"),
    careless(_KIND, "unknown-attribute", "it sets an attribute that there is not", _RUNS,
             rewrite="return g.node('Relu', [m.x], {'slope': 0.5}).outputs[0]"),
    careless(_KIND, "wrong-shape", "what it returns has another shape", "became float32",
             rewrite="return g.node('Flatten', [m.relu.outputs[0]]).outputs[0]"),
    careless(_KIND, "wrong-type", "what it returns has another type", "became float64",
             rewrite="return g.node('Cast', [m.relu.outputs[0]], {'to': 11}).outputs[0]"),
    careless(_KIND, "names-an-output-itself", "it gives its tensor a name that is free", code=0,
             rewrite=f"{_ZERO}\nmade = g.node('Max', [m.x, zero], like=m.relu)\nmade.outputs[0].name = 'mine'\n"
             "return made.outputs[0]",
             note="it takes the name of the tensor whose place it takes",
             paranoid=End(0)),
)  # fmt: skip
