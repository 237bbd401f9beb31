"""Files and packages of rules that cannot be used."""

from __future__ import annotations

from benchmarks.careless.entries import RIGHT, Careless, careless

_KIND = "registers wrongly"
_BODY = f"""
class Body:
    def pattern(p, x):
        return p.Relu(x, name='relu')
    def rewrite(m, g):
        {RIGHT}
"""


def _file(name: str, wrong: str, words: str, source: str, *, slow: bool = False) -> Careless:
    return careless(_KIND, name, wrong, words, source=f"{_BODY}\n{source}", code=2, slow=slow)


REGISTRATION: tuple[Careless, ...] = (
    _file("no-effect", "it declares no effect", "effect", "made = rule('no-effect')(Body)"),
    _file("effect-class", "it declares a class, not an effect", "declares no effect",
          "made = rule('effect-class', effect=preserves)(Body)"),
    _file("no-such-phase", "it names a phase that there is not", "there is no phase 'polish'",
          "made = rule('no-such-phase', effect=preserves(), phase='polish')(Body)"),
    _file("phase-of-another", "it preserves in the phase `replicate`",
          "'preserves' is for the phase canonicalise or finish",
          "made = rule('phase-of-another', effect=preserves(), phase='replicate')(Body)"),
    _file("no-rewrite", "it has no rewrite", "has no rewrite",
          "del Body.rewrite\nmade = rule('no-rewrite', effect=preserves())(Body)"),
    _file("no-witness", "it reparametrises without a witness", "has no witness",
          "made = rule('no-witness', effect=reparametrises())(Body)"),
    _file("name-of-a-built-in", "it has the name of a built-in pass", "there is a pass 'fold-bn' already",
          "made = rule('fold-bn', effect=preserves())(Body)"),
    _file("registers-twice", "two rules have one name", "there is a pass 'registers-twice' already",
          "first = rule('registers-twice', effect=preserves())(Body)\n"
          "second = rule('registers-twice', effect=preserves())(Body)"),
    _file("name-is-no-word", "its name has blanks and commas", "is no name of a rule",
          "made = rule('my rule, again', effect=preserves())(Body)"),
    _file("name-is-no-text", "its name is a list", "is no name of a rule", "made = rule([], effect=preserves())(Body)"),
    _file("order-is-text", "its order is a text", "order is 'first', no integer",
          "made = rule('order-is-text', effect=preserves(), order='first')(Body)"),
    _file("cost-is-a-dict", "its cost is a dictionary", "cost is a dict, no Cost",
          "made = rule('cost-is-a-dict', effect=preserves(), cost={'macs': '=='})(Body)"),
    _file("cost-is-no-relation", "its cost is no relation", "is no relation",
          "made = rule('cost-is-no-relation', effect=preserves(), cost=Cost(macs='~'))(Body)"),
    _file("pattern-is-none", "its pattern returns nothing", "its pattern returns a NoneType",
          "Body.pattern = lambda p: None\nmade = rule('pattern-is-none', effect=preserves())(Body)"),
    _file("pattern-is-any", "its pattern is any tensor", "its pattern returns a Operand",
          "Body.pattern = lambda p: p.any()\nmade = rule('pattern-is-any', effect=preserves())(Body)"),
    _file("pattern-of-text", "its pattern has a text for an operand", "its pattern has the part 'x'",
          "Body.pattern = lambda p: p.Relu('x')\nmade = rule('pattern-of-text', effect=preserves())(Body)"),
    _file("pattern-raises", "its pattern raises", "KeyError: 'w'",
          "Body.pattern = lambda p: {}['w']\nmade = rule('pattern-raises', effect=preserves())(Body)"),
    _file("defines-nothing", "the file defines no rule", "defines no rule", ""),
    _file("syntax", "the file is no Python", "SyntaxError", "def ("),
    _file("import-error", "the file imports what there is not", "No module named 'nowhere'", "import nowhere"),
    _file("ends-the-process", "the file ends the process", "the file ended the process", "sys.exit(3)"),
    _file("loops-when-loaded", "the file does not end", "did not end within", "while True: pass", slow=True),
    careless(_KIND, "moves-away", "the file and the rule change the working folder", code=0, above="os.chdir('/')",
             check="os.chdir('/')\nnp.seterr(all='raise')\nsys.stdout = None",
             note="the working folder, NumPy's handling of errors and standard output are put back"),
)  # fmt: skip
