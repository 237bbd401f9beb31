"""Rules that declare what does not hold: `preserves`, costs, `reparametrises`, `replicates`, `averages`."""

from __future__ import annotations

from benchmarks.careless.entries import Careless, End, careless

_BREAKS = "breaks its declaration (preserves)"
_BN = "return p.BatchNormalization(x, *p.consts('s b mean var'), name='relu')"
_CLIP = "return p.Clip(x, p.const('low'), p.const('high'), name='relu')"
_SIGN = "return p.Sign(x, name='relu')"
_POOL = "return p.GlobalAveragePool(x, name='relu')"
_CONV = "return p.Conv(x, p.const('w'), name='conv')"
_ONCE = "m.require(m.conv.source is not None and len(m.x.outputs) == 1, 'is done')"


def _affine(epsilon: str, factor: str = "1", shift: str = "0") -> str:
    """A BatchNormalization as Mul and Add."""
    return f"""
        slope = {factor} * m.s.values / np.sqrt(m.var.values + np.float32({epsilon}))
        shift = m.b.values - slope * m.mean.values + np.float32({shift})
        scaled = g.node('Mul', [m.x, g.constant('slope', slope.reshape(1, -1, 1, 1).astype(np.float32))]).outputs[0]
        stored = g.constant('shift', shift.reshape(1, -1, 1, 1).astype(np.float32))
        return g.node('Add', [scaled, stored], like=m.relu).outputs[0]"""


def _max_and(more: str) -> str:
    """A ReLU, and an addition to it that is 0 on most numbers."""
    return f"""
        def c(value):
            return g.constant('c', np.float32(value))
        def op(kind, *read, **attrs):
            return g.node(kind, list(read), attrs).outputs[0]
        def where(mask, value):
            return op('Where', mask, c(value), c(0))
        return op('Add', op('Max', m.x, c(0)), {more})"""


PRESERVES: tuple[Careless, ...] = (
    careless("false preserves", "epsilon-forgotten", "it forgets epsilon", _BREAKS, pattern=_BN, rewrite=_affine("0")),
    careless("false preserves", "epsilon-default", "it takes epsilon for the default", _BREAKS, pattern=_BN,
             rewrite=_affine("1e-5")),
    careless("false preserves", "mean-forgotten", "it forgets the mean", _BREAKS, pattern=_BN,
             rewrite=_affine("1e-3", shift="1")),
    careless("false preserves", "off-by-1e-5", "it is off by one part in 100,000", _BREAKS, pattern=_BN,
             rewrite=_affine("1e-3", factor="np.float32(1.00001)")),
    careless("false preserves", "one-channel", "it is wrong in one channel", _BREAKS, pattern=_BN,
             rewrite=_affine("1e-3", factor="np.where(np.arange(8) == 5, 1.01, 1)")),
    careless("false preserves", "all-of-it", "it drops the operator", _BREAKS, rewrite="return m.x"),
    careless("false preserves", "wrong-at-0", "it takes Sign for one that is +1 at 0", _BREAKS, pattern=_SIGN,
             rewrite="at = g.node('GreaterOrEqual', [m.x, g.constant('zero', np.float32(0))]).outputs[0]\n"
             "one, less = g.constant('one', np.float32(1)), g.constant('less', np.float32(-1))\n"
             "return g.node('Where', [at, one, less], like=m.relu).outputs[0]"),
    careless("false preserves", "wrong-at-negatives", "it takes Relu for Abs", _BREAKS,
             rewrite="return g.node('Abs', [m.x], like=m.relu).outputs[0]"),
    careless("false preserves", "wrong-beyond-150", "it drops Clip's bounds, which are far away", _BREAKS,
             pattern=_CLIP, rewrite="return m.x"),
    careless("false preserves", "wrong-beyond-100", "it is wrong for numbers above 100", _BREAKS,
             rewrite=_max_and("where(op('Greater', m.x, c(100)), 1)")),
    careless("false preserves", "wrong-below-1000", "it is wrong for numbers below -1,000", _BREAKS,
             rewrite=_max_and("where(op('Less', m.x, c(-1000)), 1)")),
    careless("false preserves", "wrong-at-denormals", "it is wrong at the smallest numbers", _BREAKS,
             rewrite=_max_and("where(op('And', op('Greater', m.x, c(0)), op('Less', m.x, c(1e-37))), 1)")),
    careless("false preserves", "wrong-between", "it is wrong between 1.2345 and 1.2346", _BREAKS,
             rewrite=_max_and("where(op('And', op('Greater', m.x, c(1.2345)), op('Less', m.x, c(1.2346))), 1)")),
    careless("false preserves", "batch-frozen", "it stores the batch size of the run that it saw",
             f"{_BREAKS}|does not run", pattern="return p.Flatten(x, name='relu')",
             rewrite="return g.node('Reshape', [m.x, g.constant('to', [m.facts.of(m.x).shape[0], -1])]).outputs[0]"),
    careless("false preserves", "batch-mean", "it averages over the batch, which is right for one image", _BREAKS,
             rewrite="mean = g.node('ReduceMean', [m.x], {'axes': [0]}).outputs[0]\n"
             "off = g.node('Sub', [m.x, m.x]).outputs[0]\n"
             "return g.node('Relu', [g.node('Add', [mean, off]).outputs[0]]).outputs[0]"),
    careless("false preserves", "wrong-from-batch-3", "it is wrong for batches of three and more",
             "canonical form", code=3,
             rewrite="batch = g.node('Gather', [g.node('Shape', [m.x]).outputs[0], g.constant('at', [0])]).outputs[0]\n"
             "many = g.node('Cast', [g.node('Greater', [batch, g.constant('two', [2])]).outputs[0]], {'to': 1})\n"
             "relu = g.node('Max', [m.x, g.constant('zero', np.float32(0))]).outputs[0]\n"
             "return g.node('Add', [relu, many.outputs[0]]).outputs[0]"),
    careless("false preserves", "wrong-pool", "it sums where the mean is taken", _BREAKS, pattern=_POOL,
             rewrite="return g.node('ReduceSum', [m.x, g.constant('axes', [2, 3])], like=m.relu).outputs[0]"),
    careless("false preserves", "wrong-at-infinity", "it gives something else at infinity alone", code=0,
             rewrite=_max_and("where(op('IsInf', m.x), 1)").replace("'Max', m.x", "'Max', m.x"),
             note="declarations hold for finite numbers; the judge feeds infinity to binarisations alone"),
    careless("false preserves", "wrong-at-nan", "it gives something else at NaN alone", code=0,
             rewrite=_max_and("where(op('And', op('IsNaN', m.x), op('IsNaN', m.x)), 1)"),
             note="declarations hold for finite numbers"),
    careless("false preserves", "random-values", "it adds random numbers", f"{_BREAKS}|does not run",
             rewrite="noise = g.constant('noise', np.random.normal(size=(1, 8, 1, 1)).astype(np.float32))\n"
             "return g.node('Add', [m.relu.outputs[0], noise]).outputs[0]",
             paranoid=End(1, "writes something else when it is called a second time")),
    careless("false preserves", "random-operator", "it writes an operator that draws random numbers", _BREAKS,
             rewrite="noise = g.node('RandomNormalLike', [m.x]).outputs[0]\n"
             "return g.node('Add', [m.relu.outputs[0], noise]).outputs[0]"),
    careless("false preserves", "random-order", "it writes operands in an order that it draws", code=0,
             rewrite="read = [m.x, *(g.constant('low', np.float32(-n)) for n in range(20))]\n"
             "random.SystemRandom().shuffle(read)\nreturn g.node('Max', read, like=m.relu).outputs[0]",
             paranoid=End(1, "writes something else when it is called a second time"),
             note="every order is right; the test mode finds it"),
)  # fmt: skip

OTHERS: tuple[Careless, ...] = (
    careless("false cost", "weights-grow", "it declares weights ==, and doubles them", "declares weights ==, but",
             pattern=_CONV, check=_ONCE, options="effect=preserves(), cost=Cost(weights='==')",
             rewrite="half = g.constant('half', m.w.values / 2)\n"
             "parts = [g.node('Conv', [m.x, half], m.conv.attrs, like=m.conv).outputs[0] for _ in range(2)]\n"
             "return g.node('Add', parts).outputs[0]"),
    careless("false cost", "macs-grow", "it declares macs <=, and doubles them", "declares macs <=, but",
             pattern=_CONV, check=_ONCE, options="effect=preserves(), cost=Cost(macs='<=')",
             rewrite="half = g.constant('half', m.w.values / 2)\n"
             "parts = [g.node('Conv', [m.x, half], m.conv.attrs, like=m.conv).outputs[0] for _ in range(2)]\n"
             "return g.node('Add', parts).outputs[0]"),
    careless("false reparametrises", "another-witness", "its witness computes something else",
             "breaks its declaration (reparametrises)", options="effect=reparametrises()",
             more="def witness(m, g):\n    return g.node('Abs', [m.x]).outputs[0]"),
    careless("false reparametrises", "own-witness", "it changes the network, and its witness with it",
             "canonical form", code=3, options="effect=reparametrises()",
             rewrite="return g.node('Abs', [m.x]).outputs[0]",
             more="def witness(m, g):\n    return g.node('Max', [m.x, g.node('Neg', [m.x]).outputs[0]]).outputs[0]"),
    careless("false replicates", "softmax-is-pointwise", "it calls an operator over channels pointwise",
             "breaks its declaration (replicates)",
             source="told = rule('softmax-is-pointwise', effect=replicates(), phase='replicate', order=1)\n"
             "softmax = told(type('Body', (), {\n"
             "    'pattern': lambda p, x: p.op('com.example.Swish', x, name='swish'),\n"
             "    'rewrite': lambda m, g: Tagged(g.node('Softmax', [m.x], {'axis': 1}).outputs[0],\n"
             "                                   m.context.wide(m.x))}))"),
    careless("false replicates", "copies-swapped", "it swaps the copies", "breaks its declaration (replicates)",
             pattern="return p.op('com.example.Swish', x, name='swish')",
             options="effect=replicates(), phase='replicate', order=1",
             rewrite="state = m.context.wide(m.x)\nn = state.size\n"
             "order = g.constant('order', [*range(n, 2 * n), *range(n)], np.int64)\n"
             "turned = g.node('Gather', [m.x, order], {'axis': 1}).outputs[0]\n"
             "return Tagged(g.node('Swish', [turned], like=m.swish).outputs[0], state)"),
    careless("false replicates", "wrong-tag", "it says of a wide tensor that it is narrow", "breaks its declaration",
             pattern="return p.op('com.example.Swish', x, name='swish')",
             options="effect=replicates(), phase='replicate', order=1",
             rewrite="return g.node('Swish', [m.x], like=m.swish).outputs[0]"),
    careless("false averages", "first-copy", "it takes the first copy for the mean",
             "breaks its declaration (averages)",
             pattern="return p.op('com.example.Swish', x, name='swish')",
             options="effect=averages(), phase='replicate', order=1",
             rewrite="state = m.context.wide(m.x)\nfirst = g.constant('first', [*range(state.size)], np.int64)\n"
             "one = g.node('Gather', [m.x, first], {'axis': 1}).outputs[0]\n"
             "return g.node('Swish', [one], like=m.swish).outputs[0]"),
)  # fmt: skip
