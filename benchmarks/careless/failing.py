"""Rules that raise, that do not come to an end, or that return what they should not."""

from __future__ import annotations

from benchmarks.careless.entries import RIGHT, Careless, End, careless

_AT = "at node 'relu1'"
_ADD = "return p.Add(p.any('a'), p.any('b'), name='add')"

RAISES: tuple[Careless, ...] = (
    careless("raises", "raises-in-pattern", "a test in its pattern raises", f"{_AT} failed: ZeroDivisionError",
             pattern="return p.Relu(p.any('x', test=lambda t: 1 / 0), name='relu')"),
    careless("raises", "raises-in-predicate", "a predicate over an attribute raises", "at node 'y' failed: TypeError",
             pattern="return p.Gemm(x, p.any('w'), p.any('b'), name='relu', transB=lambda v: v + 'x')"),
    careless("raises", "raises-in-check", "check raises", f"{_AT} failed: KeyError: 'axis'",
             check="m.relu.attrs['axis']"),
    careless("raises", "raises-in-rewrite", "rewrite raises, half done", f"{_AT} failed: AttributeError",
             rewrite=f"g.node('Neg', [m.x])\nm.weights\n{RIGHT}"),
    careless("raises", "raises-in-witness", "witness raises", f"{_AT} failed: ValueError: no witness",
             options="effect=reparametrises()", more="def witness(m, g):\n    raise ValueError('no witness')"),
    careless("raises", "raises-in-effect", "an effect of its own raises", f"{_AT} failed: NotImplementedError",
             above="class Trust(Effect):\n    kind = 'trust'", options="effect=Trust()"),
    careless("raises", "raises-base", "it raises what is no Exception", f"{_AT} failed: Stop: enough",
             above="class Stop(BaseException): pass", rewrite="raise Stop('enough')"),
    careless("raises", "recursion", "it calls itself without end", f"{_AT} failed: RecursionError",
             above="def deeper(n):\n    return deeper(n + 1)", rewrite="return deeper(0)"),
    careless("raises", "memory", "it asks for more memory than there is", f"{_AT} failed: ",
             rewrite="return g.constant('huge', np.zeros((1 << 24, 1 << 24)))"),
    careless("raises", "exits-in-check", "check ends the process", f"{_AT} ends the process (exit code 0)",
             check="sys.exit(0)"),
    careless("raises", "exits-in-rewrite", "rewrite ends the process", f"{_AT} ends the process (exit code None)",
             rewrite="exit()"),
    careless("raises", "reads-input", "it asks the user", f"{_AT} failed: EOFError", check="input('go on? ')"),
    careless("raises", "prints", "it prints to standard output", code=0, check="print('rewriting', m.root.name)",
             note="what it prints goes to standard error: standard output may be the model's"),
)  # fmt: skip

_LATE = f"{_AT}: it did not end within"
_FOREVER = "let its check turn down what is done"

ENDLESS: tuple[Careless, ...] = (
    careless("does not end", "loops-in-pattern", "a test in its pattern does not end", _LATE, slow=True,
             above="def spin(t):\n    while True:\n        pass",
             pattern="return p.Relu(p.any('x', test=spin), name='relu')"),
    careless("does not end", "loops-in-check", "check does not end", _LATE, slow=True, check="while True: pass"),
    careless("does not end", "loops-in-rewrite", "rewrite does not end", _LATE, slow=True,
             rewrite="made = m.x\nwhile made is not None:\n    made = g.node('Relu', [made]).outputs[0]"),
    careless("does not end", "loops-in-witness", "witness does not end", _LATE, slow=True,
             options="effect=reparametrises()", more="def witness(m, g):\n    while True: pass"),
    careless("does not end", "loops-in-effect", "an effect of its own does not end", _LATE, slow=True,
             above="class Spin(Effect):\n    kind = 'spin'\n    def execute(self, made):\n        while True: pass",
             options="effect=Spin()"),
    careless("does not end", "keeps-exceptions", "it loops, and catches every Exception", _LATE, slow=True,
             check="while True:\n    try: time.sleep(0.001)\n    except Exception: pass"),
    careless("does not end", "sleeps", "it sleeps for a day", _LATE, slow=True, check="time.sleep(86400)"),
    careless("does not end", "backtracks", "its pattern has more alternatives than can be tried", slow=True,
             words="it did not end within",
             above="def deep(p, n):\n    part = p.any(test=lambda t: False) if n == 0 else deep(p, n - 1)\n"
                   "    rest = [p.any(optional=True)] * 4\n    return p.either(*[p.op('*', part, *rest)] * 9)",
             pattern="return p.Gemm(deep(p, 12), p.any('w'), p.any('b'), name='relu')"),
    careless("does not end", "swaps-for-ever", "it swaps the operands of every Add, again and again",
             "rewrites for ever",
             pattern=_ADD, rewrite="return g.node('Add', [m.b, m.a], like=m.add).outputs[0]"),
    careless("does not end", "repeats-for-ever", "it writes what was there, again and again", "rewrites for ever",
             rewrite="return g.node('Relu', [m.x], like=m.relu).outputs[0]",
             paranoid=End(1, "reports a rewrite, and what it wrote is what was there")),
    careless("does not end", "grows-by-one", "it matches what it wrote, and adds one", _FOREVER,
             rewrite="return g.node('Relu', [m.relu.outputs[0]]).outputs[0]"),
    careless("does not end", "doubles", "it matches what it wrote, and doubles it", _FOREVER,
             rewrite="return g.node('Relu', [g.node('Relu', [m.x]).outputs[0]]).outputs[0]"),
)  # fmt: skip

TYPES: tuple[Careless, ...] = (
    careless("wrong type", "returns-none", "rewrite returns nothing", "rewrite returns a NoneType", rewrite="pass"),
    careless("wrong type", "returns-a-node", "rewrite returns a node", "return its .outputs[0]",
             rewrite="return g.node('Relu', [m.x])"),
    careless("wrong type", "returns-an-array", "rewrite returns an array", "rewrite returns a ndarray",
             rewrite="return np.zeros(3)"),
    careless("wrong type", "returns-a-name", "rewrite returns a tensor's name", "rewrite returns a str",
             rewrite="return m.x.name"),
    careless("wrong type", "returns-two", "rewrite returns two tensors for one", "returns 2 tensors for 1 outputs",
             rewrite="return [m.x, m.x]"),
    careless("wrong type", "returns-an-empty-list", "rewrite returns an empty list", "returns 0 tensors for 1 outputs",
             rewrite="return []"),
    careless("wrong type", "check-returns-false", "check returns False, which turns nothing down",
             "check returns False: it turns matches down with m.require(...)", check="return m.relu.name == 'relu7'"),
    careless("wrong type", "array-operand", "it gives an operator an array to read", "store it with g.constant",
             rewrite="return g.node('Max', [m.x, np.zeros(1)]).outputs[0]"),
    careless("wrong type", "node-operand", "it gives an operator a node to read", "give one of its .outputs",
             rewrite="return g.node('Relu', [g.node('Relu', [m.x])]).outputs[0]"),
    careless("wrong type", "strange-attribute", "it gives an attribute an object", "failed: ",
             rewrite="return g.node('Relu', [m.x], {'way': object()}).outputs[0]"),
    careless("wrong type", "strange-constant", "it stores objects", "failed: ",
             rewrite="return g.node('Max', [m.x, g.constant('zero', [object()])]).outputs[0]"),
    careless("wrong type", "strange-tag", "it tags a tensor with nonsense", code=0,
             rewrite=RIGHT.replace("return ", "return Tagged(").replace(".outputs[0]", ".outputs[0], object())"),
             note="a tag says nothing outside of the phase `replicate`",
             paranoid=End(1, "writes something else when it is called a second time")),
)  # fmt: skip
