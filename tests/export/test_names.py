"""What a statement defines, reads at once, reads later, alters and deletes: a table for every rule."""

from __future__ import annotations

import ast
import symtable
import sys
import sysconfig
from pathlib import Path

import pytest

from nbcompose._export.binding import StatementNames
from nbcompose._export.effects import Touch
from nbcompose._export.names import names_of


def of(source: str, *, lazy: bool = False) -> StatementNames:
    [statement] = ast.parse(source).body
    return names_of(statement, lazy_annotations=lazy)


def words(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize(
    ("source", "defines", "reads"),
    [
        # assignment
        ("x = y", "x", "y"),
        ("x = x + 1", "x", "x"),
        ("a, (b, *c) = d", "a b c", "d"),
        ("[a, b] = c = d", "a b c", "d"),
        ("a.b = c", "", "a c"),
        ("a[i], b = c", "b", "a i c"),
        ("x: int = y", "x", "int y"),
        ("x: int", "", "int"),
        ("x += y", "", "x y"),
        ("x: 'Later' = y", "x", "y"),
        ("print(f'{a:{b}} {c!r} d')", "", "print a b c"),
        # imports
        ("import a.b", "a", ""),
        ("import a.b as c, d", "c d", ""),
        ("from a import b, c as d", "b d", ""),
        ("from . import a", "a", ""),
        ("from a import *", "", ""),
        ("from __future__ import annotations", "annotations", ""),
        # comprehensions
        ("x = [y for y in z]", "x", "z"),
        ("x = [y for y in y]", "x", "y"),
        ("x = {k: v + w for k, v in z.items() if k in q}", "x", "z w q"),
        ("x = sum(a * b for a in c for b in a if d)", "x", "sum c d"),
        ("x = [[i for i in row] for row in rows]", "x", "rows"),
        ("x = [lambda: i for i in j]", "x", "j"),
        ("x = [(w := y) for y in z]", "x w", "z"),
        # walrus
        ("(x := y)", "x", "y"),
        ("if (n := f()) > m: pass", "n", "f m"),
        ("while (line := next(lines)): print(line)", "line", "next lines print"),
        # a name that the statement has bound itself
        ("for i in xs: print(i)", "i", "xs print"),
        ("for i, (a, *b) in xs: use(i, a, b)", "i a b", "xs use"),
        ("for i in xs: pass\nelse: print(i)", "i", "xs print i"),
        ("with open(p) as f: data = f.read()", "f data", "open p"),
        ("with a as (b, c), d: e = b + c", "b c e", "a d"),
        ("with a as b.c: pass", "", "a b"),
        ("for i in xs:\n    if i: y = 1\n    else: y = 2\n    use(y)", "i y", "xs use"),
        ("for i in xs:\n    if i: y = 1\n    use(y)", "i y", "xs use y"),
        ("if a: b = 1\nelse: b = 2", "b", "a"),
        ("while a: b = 1\nelse: c = b", "b c", "a b"),
        # try
        ("try: import a\nexcept ImportError: a = None", "a", "ImportError"),
        ("try: x = f()\nexcept E as e: print(e)\nelse: y = x\nfinally: g(x)", "x y", "f E print g x"),
        ("try: x = 1\nexcept* E as e: print(e)", "x", "E print"),
        # match
        ("match p:\n    case [x, *rest] if x > m: y = x\n    case {'k': k, **o}: pass", "x rest y k o", "p m"),
        ("match p:\n    case Point(x=a) | Other(a): pass\n    case q.RED: pass", "a", "p Point Other q"),
        ("match p:\n    case (1 | 2) as n: pass\n    case _: pass", "n", "p"),
        # functions: decorators, defaults and annotations at once
        ("@d(e)\ndef f(a, b=g, *, c=h): return a", "f", "d e g h"),
        ("def f(a: A, *b: B, c: C = 1, **d: D) -> E: pass", "f", "A B C D E"),
        ("async def f(a=b): await a", "f", "b"),
        ("x = lambda a, b=c: a + d", "x", "c"),
        # classes: all but the bodies of methods at once
        ("class A(B, metaclass=M, k=v): pass", "A", "B M v"),
        (
            "class A:\n    path = Model('x')\n    size = len(path)\n    def f(self, n=size): return self",
            "A",
            "Model len",
        ),
        ("class A:\n    x = x", "A", "x"),
        ("class A:\n    if c: y = 1\n    z = y", "A", "c y"),
        ("class A:\n    n = 1\n    xs = [n for _ in r]", "A", "n r"),  # a comprehension does not see the class's names
        ("class A:\n    n = r\n    xs = [i for i in n]", "A", "r"),  # but for what it loops over
        ("class A:\n    global g\n    g = h", "A g", "h"),
        ("class A:\n    class B(C): x = y", "A", "C y"),
        ("class A:\n    a: int\n    b: T = v", "A", "int T v"),
        ("@dataclass\nclass A: x: int = field(default_factory=list)", "A", "dataclass int field list"),
        (
            "class A:\n    @property\n    def x(self): return 1\n    @x.setter\n    def x(self, v): pass",
            "A",
            "property",
        ),
        # annotations
        ("def f(a: 'A', b: list['B'], c: Optional['C']) -> 'D': pass", "f", "list Optional"),
        ("def f(a: Literal['A'], b: t.Literal['B', 'C']): pass", "f", "Literal t"),
        ("def f(a: Annotated['A', g('B'), h]): pass", "f", "Annotated g h"),
        ("def f(a: A | 'B', b: Callable[[X], Y]): pass", "f", "A Callable X Y"),
        # deletion
        ("del x, y[i], z.a", "", "x y i z"),
    ],
)
def test_defines_and_reads_at_once(source: str, defines: str, reads: str) -> None:
    found = of(source)
    assert found.defines == words(defines)
    assert found.reads == words(reads)


@pytest.mark.parametrize(
    ("source", "later"),
    [
        ("def f(a): return a + b", "b"),
        ("def f():\n    x = 1\n    return x + y", "y"),
        ("def f():\n    print(x)\n    x = 1", "print"),  # a local variable, though it is not bound yet
        ("def f():\n    def g(): return h + i\n    i = 1\n    return g", "h"),
        ("def f():\n    global x\n    x = 1\n    return x", "x"),
        ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = y", "y"),
        ("def f():\n    from a import b\n    import c.d\n    return b, c, e", "e"),
        ("def f():\n    with a as b: pass\n    for c in b: pass\n    return c", "a"),
        ("def f():\n    try: pass\n    except E as e: print(e)", "E print"),
        ("def f(x):\n    match x:\n        case [a, *b] | {'k': a, **b}: return a, b, K", "K"),
        ("def f():\n    [y := i for i in r]\n    return y", "r"),
        ("def f():\n    [i for i in r]\n    return i", "r i"),
        ("def f():\n    x: T = 1\n    return x", ""),  # annotations of local variables are not evaluated
        ("def f(a):\n    def g(b: B = c): pass", "B c"),
        ("def f(): return f()", "f"),
        ("def f():\n    class A(B):\n        x = y\n        def m(self): return x", "B y x"),
        ("x = lambda a: a + b", "b"),
        ("x = lambda: [i + j for i in k]", "j k"),
        ("async def f():\n    async with a as b:\n        async for c in b: yield d", "a d"),
        ("class A:\n    n = 1\n    def f(self): return n + m", "n m"),  # methods do not see the class's names
        ("class A:\n    def f(self): return super().f() + __class__.x + A.y", "super A"),
        ("class A:\n    f = lambda self: g", "g"),
        ("def f():\n    del x\n    x = 1", ""),
    ],
)
def test_reads_later(source: str, later: str) -> None:
    assert of(source).later == words(later)


@pytest.mark.parametrize(
    ("source", "lazy", "reads", "soft"),
    [
        ("def f(a: 'A', b: 'B[C]'): pass", False, "", "A B C"),
        ("def f(a: 'not python at all'): pass", False, "", ""),
        ("def f(a: A) -> B: pass", True, "", "A B"),
        ("x: A = b", True, "b", "A"),
        ("class K:\n    x: A = b", True, "b", "A"),
        ("def f():\n    x: A = 1", False, "", "A"),
        ("def f(a: Annotated[int, Field(ge=low)]): pass", False, "Annotated int Field low", ""),
    ],
)
def test_annotations_that_nobody_need_evaluate(source: str, lazy: bool, reads: str, soft: str) -> None:
    found = of(source, lazy=lazy)
    assert (found.reads, found.soft) == (words(reads), words(soft))


@pytest.mark.parametrize(
    ("source", "surely"),
    [
        ("if a: x = 1", ""),
        ("if a: x = 1\nelse: x = y = 2", "x"),
        ("if a: x = 1\nelse: raise E", "x"),
        ("if a: x = 1\nelif b: x = 2\nelse: x = 3", "x"),
        ("for i in r: x = 1", ""),
        ("while True: x = 1", ""),
        ("with a as b: x = 1", "b x"),
        ("try: x = 1\nexcept E: pass", ""),
        ("try: x = 1\nexcept E: x = 2", "x"),
        ("try: x = 1\nexcept E: raise", "x"),
        ("try: pass\nexcept E: y = 1\nelse: y = 2\nfinally: z = 1", "y z"),
        ("match a:\n    case 1: x = 1\n    case _: x = 2", "x"),
        ("match a:\n    case 1: x = 1\n    case 2: x = 2", ""),
        ("x = 1", "x"),
    ],
)
def test_what_a_branch_binds_is_bound_perhaps(source: str, surely: str) -> None:
    assert of(source).surely == words(surely)


def touches(text: str) -> set[str]:
    """`x item`, `x deep method append`, `y argument f`: what a statement touches, as a person would note it down."""
    return set(filter(None, text.split(", ")))


def noted(found: set[Touch]) -> set[str]:
    return {" ".join(filter(None, (t.name, "deep" * t.deep, t.how, t.by, *(f"via {v}" for v in t.via)))) for t in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x[0] = 1", "x item"),
        ("x.a.b[0] = 1", "x deep item"),
        ("x[:1] = y", "x item again"),
        ("x[0] = x[1]", "x item again"),
        ("x['a'] = x['b'] * 2 + x.c", "x item"),  # a column out of others
        ("x['a'] = x['a'] + x['b']", "x item again"),
        ("x['a'] = x.a * 2", "x item again"),
        ("x['a'] = x[b]", "x item again"),
        ("x['a']['c'] = x['b']", "x deep item again"),
        ("a, x[0] = b", "x item"),
        ("x.a: int = 1", "x item"),
        ("del x[0], y.a", "x item again, y item again"),
        ("x += 1", "x augment"),
        ("x[0] += 1", "x item again"),
        ("f(x)[0] = 1", "x deep item via f, f call, x argument f, f deep item via f"),
        ("vars(x)['a'] = 1", "x deep item via vars, x argument vars, vars call"),
        # calls: their object, what they are handed, and what is called itself
        ("x.append(y)", "x method append, y argument x.append"),
        ("x.a.b.append(1)", "x deep method append"),
        ("last = x.pop()", "x method pop"),
        ("x.put(1).put(2)", "x method put, x deep method put via x.put"),
        ("list.append(x, 1)", "list method append, x argument list.append"),
        ("f(x.a, *y, k=z[0])", "f call, x argument f, y argument f, z argument f"),
        ("f(g(x))", "f call, g call, x argument g, g argument f via g, x argument f via g"),
        ("f([x])", "f call, x deep argument f"),
        ("f()()", "f call, f call via f"),
        ("x.fill(inplace=True)", "x method fill_"),
        ("x.fill(inplace=False)", "x method fill"),
        ("f(out=x)", "f call, x argument f, x argument"),
        ("map(x.append, y)", "map call, x argument map, y argument map, x method append, y argument x.append"),
        ("y.sort(key=x.get)", "y method sort, x argument y.sort, x method get, y argument x.get"),
        ("sum(x)", "sum call, x argument sum, x iterated"),
        # in and around other statements
        ("for i in x: i['a'] = 1", "x iterated, x deep item"),
        ("for x.a in r: pass", "x item, r iterated"),
        ("[e.append(1) for e in x]", "x iterated, x deep method append"),
        ("with x as y: y.clear()", "x method __enter__, x method __exit__, x deep method clear"),
        ("class A:\n    x.append(1)", "x method append"),
        ("@x.add\ndef f(): pass", "x method add"),
        ("@x\nclass A: pass", "x call"),
        ("globals()['x'].append(1)", "globals call, x method append"),
        ("globals()['x'] += [1]", "x augment"),
        ("exec('x.append(1)')", "exec call, x method append"),
        ("x", ""),
        # what happens to a name of the statement's own
        ("for i in 3, 4: i += 1", ""),
        ("def f(x): x.append(1)", ""),
        ("[x.a for x in y]", "y iterated"),
    ],
)
def test_what_a_statement_touches(source: str, expected: str) -> None:
    assert noted(of(source).touches) == touches(expected)


def test_what_a_function_touches_when_it_is_called() -> None:
    found = of(
        "def f():\n    global n\n    n = 1\n    m = []\n    m.append(1)\n    xs.append(n)\n    ys[0] = 1\n    n += 1"
    )
    assert found.binds_later == {"n"}
    assert {t.name for t in found.touches_later} == {"xs", "ys", "n"}
    assert found.touches == set()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x.append(1)", "x method append"),
        ("x[0] = 1", "x item"),
        ("x += [1]", "x augment"),
        ("for i in x: i.a = 1", "x iterated, x deep item"),
        ("y = x[0]\n    y.append(1)", "x deep method append"),
        ("z(x)", "x argument z"),
        ("z = g()\n    z(x)", "x argument"),  # nothing is known of it
        ("z = g()\n    z.put(x)", "x argument .put"),
        ("print(x)", "x argument print"),
        ("return [i for i in x]", "x iterated"),
        ("x = []\n    return x", ""),
        ("x = x[0]\n    x.append(1)", "x method append"),
        ("def y(): x.append(1)\n    y()", "x method append, x deep call"),
    ],
)
def test_what_a_function_does_to_what_is_handed_to_it(body: str, expected: str) -> None:
    assert noted(of(f"def f(x):\n    {body}").arguments) == touches(expected)


@pytest.mark.parametrize(
    ("source", "anything", "later"),
    [
        ("exec(code)", True, False),
        ("exec('x = 1')", False, False),
        ("globals()[k] = 1", True, False),
        ("globals()['k'] = 1", False, False),
        ("globals().update(d)", True, False),
        ("f(globals())", True, False),
        ("if 'x' not in globals(): y = 1", False, False),
        ("print(globals().get('x'))", False, False),
        ("vars(x)[k] = 1", False, False),
        ("def f(): globals()[k] = 1", False, True),
    ],
)
def test_what_may_set_any_name(source: str, anything: bool, later: bool) -> None:
    found = of(source)
    assert (found.anything, found.anything_later) == (anything, later)


@pytest.mark.parametrize(
    ("source", "deletes", "defines"),
    [
        ("del x", "x", ""),
        ("del (x, y)", "x y", ""),
        ("if a: del x", "", ""),  # perhaps
        ("def f(): del x", "", "f"),
        ("with a as b: del b", "b", ""),
    ],
)
def test_deletes(source: str, deletes: str, defines: str) -> None:
    found = of(source)
    assert (found.deletes, found.defines) == (words(deletes), words(defines))


@pytest.mark.parametrize(
    ("source", "names", "variables"),
    [
        ("class A:\n    b = depends(B)", "", "B"),
        ("class A:\n    b = nbcompose.depends('B')", "B", ""),
        ("class A:\n    b = depends(url='http://b')", "", ""),
    ],
)
def test_dependencies(source: str, names: str, variables: str) -> None:
    found = of(source)
    assert (found.depends, found.on) == (words(names), words(variables))


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("x = f(g, a.b(h[0]))", "f g a h"),
        ("@d\n@e.f\ndef g(): h()", "d e"),
        ("class A:\n    b = depends(B)", ""),
        ("x = f", ""),
    ],
)
def test_what_is_called_at_once(source: str, calls: str) -> None:
    assert of(source).calls == words(calls)


@pytest.mark.parametrize(
    ("source", "awaits"),
    [
        ("x = await f()", True),
        ("async for i in f(): pass", True),
        ("async with a: pass", True),
        ("x = [i async for i in f()]", True),
        ("async def f(): await g()", False),
        ("async def f(): return [i async for i in g()]", False),
        ("x = f()", False),
    ],
)
def test_await_outside_of_a_function(source: str, awaits: bool) -> None:
    assert of(source).awaits is awaits


def test_a_lambda_that_is_handed_to_a_call_may_be_called_at_once() -> None:
    assert of("x = sorted(y, key=lambda i: weights[i])").handed
    assert not of("x = lambda i: weights[i]").handed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = b", "a is b"),
        ("a = b.c[0]", "a within b"),
        ("a = [b, (c, *d)]", "a holds b, a holds c, a holds d"),
        ("a = {'k': b}", "a holds b"),
        ("a = b or c", "a is b, a is c"),
        ("a = b if c else d", "a is b, a is d"),
        ("a, c = b", "a within b, c within b"),
        ("a, c = c, a", "a within a, a within c, c within a, c within c"),
        ("a = (c := b)", "a is b, c is b"),
        ("a = Box(b, k=c.d)", "a holds b via Box, a holds c via Box, a holds Box via Box"),
        ("a = b = c()", "a is b, b is a, a within c via c, b within c via c"),
        ("a = b.copy()", "a holds b via b.copy"),
        ("a = list(b)", "a holds b via list"),
        ("a = f(b)", "a within b via f, a within f via f"),
        ("a = b.c(d)", "a within b via b.c, a within d via b.c"),
        ("a = b + c", "a holds b, a holds c"),
        ("a = [e for e in b]", "a holds b"),
        ("a = [e for e in b for f in e]", "a holds b"),
        ("a = b == c", ""),
        ("a = f'{b}'", ""),
        ("for a, c in b: pass", "a within b, c within b"),
        ("with b as a: pass", "a within b"),
        ("match b:\n    case [a]: pass", "a within b"),
        ("a = lambda x=b: x + c", "a holds b, a holds c"),
        ("def a(x=b, *, y=c.d): pass", "a is b, a within c"),
        ("class a:\n    x = b\n    y = c + d", "a is b, a holds c, a holds d"),
    ],
)
def test_what_values_have_to_do_with_one_another(source: str, expected: str) -> None:
    found = {f"{name} {h.how} {' via '.join((h.name, *h.via))}" for name, h in of(source).aliases}
    assert found == touches(expected)


@pytest.mark.parametrize(
    ("source", "returns", "arguments"),
    [
        ("def f(): return a", "a", False),
        ("def f(): return [a, b.c], d + e", "a b d e", False),
        ("def f():\n    x = a[0]\n    return x", "a", False),
        ("def f(x): return x", "", True),
        ("def f(x): return x.copy()", "", True),  # its items
        ("def f(x): return str(x)", "", True),  # what `str` is, the notebook says
        ("def f(x): return f'{x}'", "", False),
        ("def f(x):\n    def g(): return x\n    return g", "", True),
        ("def f(): yield a", "a", False),
        ("f = lambda x: (x, a)", "a", True),
    ],
)
def test_what_a_function_returns_as_it_is(source: str, returns: str, arguments: bool) -> None:
    found = of(source)
    assert ({held.name for held in found.returns}, bool(found.hands_back)) == (words(returns), arguments)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of Python 3.12")
@pytest.mark.parametrize(
    ("source", "defines", "reads", "later"),
    [
        ("type A[T] = list[T] | B", "A", "", "list B"),
        ("def f[T: B](x: T, y: C) -> T: return z", "f", "C", "B z"),
        ("class K[T](Base[T]):\n    x: T = y\n    def m(self) -> T: return z", "K", "Base y", "z"),
    ],
)
def test_type_parameters(source: str, defines: str, reads: str, later: str) -> None:
    found = of(source)
    assert (found.defines, found.reads, found.later) == (words(defines), words(reads), words(later))


MODULES = ["asyncio/base_events", "collections/__init__", "dataclasses", "enum", "test/test_named_expressions"]
LONG = [
    "argparse",
    "ast",
    "inspect",
    "typing",
    "unittest/mock",
    "test/test_grammar",
    "test/test_scope",
    "test/test_patma",
]


@pytest.mark.parametrize("module", [*MODULES, *(pytest.param(m, marks=pytest.mark.system) for m in LONG)])
def test_the_compiler_finds_the_same_names(module: str) -> None:
    """CPython's own symbol table, on real code: the globals that each statement reads, and what it binds."""
    path = Path(sysconfig.get_path("stdlib"), f"{module}.py")
    if not path.exists():
        pytest.skip("this Python has no tests of its own")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert tree.body
    for statement in tree.body:
        found = names_of(statement)
        compiler = Compiler(statement)
        text = ast.unparse(statement)
        ours = found.reads | found.later | found.soft
        assert compiler.reads <= ours | found.defines, text
        assert found.defines | found.deletes <= compiler.binds, text
        if "exec(" in text or "eval(" in text:  # we look into what they run
            continue
        assert {n for n in ours - found.soft if "__" not in n} <= compiler.reads | compiler.perhaps | compiler.binds, (
            text
        )


class Generators(ast.NodeTransformer):
    """Makes a generator of each comprehension."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node, ast.DictComp):
            return ast.GeneratorExp(ast.Tuple([node.key, node.value], ast.Load()), node.generators)
        return ast.GeneratorExp(node.elt, node.generators) if isinstance(node, ast.ListComp | ast.SetComp) else node


class Compiler:
    """What the compiler says of a statement. `perhaps`: names of classes' bodies, which may be read before they are
    bound. Names with `__` are left out: in a class the compiler writes `__x` as `_A__x`.

    From 3.12 on, the table of a block has the variables of the comprehensions in it among its own, but not those of
    generators, whose scope is the same.
    """

    def __init__(self, statement: ast.stmt) -> None:
        text = ast.unparse(Generators().visit(ast.parse(ast.unparse(statement))))
        table = symtable.symtable(text, "statement", "exec")
        self.reads = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
        self.binds = {
            s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()
        }
        self.perhaps = set[str]()
        todo = list(table.get_children())
        while todo:
            inner = todo.pop()
            todo += inner.get_children()
            for symbol in inner.get_symbols():
                self._add(symbol, inner.get_type() == "class")
        self.reads = {n for n in self.reads if "__" not in n}

    def _add(self, symbol: symtable.Symbol, in_class: bool) -> None:
        if symbol.is_declared_global() and symbol.is_assigned():
            self.binds.add(symbol.get_name())
        if symbol.is_global() and symbol.is_referenced():
            self.reads.add(symbol.get_name())
        elif in_class and symbol.is_referenced():
            self.perhaps.add(symbol.get_name())
