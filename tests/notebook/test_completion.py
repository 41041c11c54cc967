from __future__ import annotations

import inspect
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter

from nbcompose._host import devices
from nbcompose._host.devices import Device
from nbcompose.settings import LEVELS

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py

ECHO = """
%%service
class Echo:
    @api
    def say(self, text: str) -> str:
        return text

class Other:
    @api
    def say(self, text: str) -> str:
        return text
"""


def test_options_of_the_cell_magic(notebook: Notebook) -> None:
    assert {"--device", "--replicas", "--no-wait"} <= set(notebook.complete("%%service "))
    assert notebook.complete("%%service --re") == ["--replicas", "--replace-after", "--replace"]
    assert notebook.complete("%%service --replace ") == ["start-first", "stop-first"]
    assert "--replicas" not in notebook.complete("%%service --replicas 2 --re")
    assert notebook.complete("%%service --env A=1 --en") == ["--env"]
    assert notebook.complete("\n# a comment\n%%service --na") == ["--name"]
    assert "--name" not in notebook.complete("x = 1\n%%service --na")


def test_devices(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = (Device(0, "GPU-a", "A", 1, 1), Device(1, "GPU-b", "B", 1, 1))
    monkeypatch.setattr(devices, "discover", lambda: cards)
    assert notebook.complete("%%service --device ") == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert notebook.complete("%%service --device cu") == ["cuda", "cuda:0", "cuda:1"]
    # The colon begins a new token, to which the completion belongs.
    assert notebook.complete("%%service --device cuda:") == ["0", "1"]
    monkeypatch.setattr(devices, "discover", lambda: ())
    assert notebook.complete("%%service --device ") == ["cpu"]


def test_actions_and_names_of_services(clean: Notebook) -> None:
    notebook = clean
    notebook.ok(ECHO)
    assert notebook.complete("%services re") == ["restart", "refresh"]
    offered = notebook.complete("%services ")
    assert offered[0] == "stop"
    assert offered[-1] == "--apis"
    assert set(offered) >= {"restart", "logs", "scale"}
    assert notebook.complete("%services logs ")[:2] == ["Echo", "Other"]
    assert notebook.complete("%graph ") == ["Echo", "Other"]
    assert notebook.complete("%export ")[-1] == "app.py"
    for action in ("stop", "restart", "refresh", "rollback", "logs", "scale"):
        assert notebook.complete(f"%services {action} Ec") == ["Echo"]
    assert notebook.complete("%services stop Echo Ot") == ["Other"]
    assert "Echo" not in notebook.complete("%services stop Echo ")
    assert {"-n", "--follow", "--level", "--api", "--trace"} <= set(notebook.complete("%services logs -"))
    assert notebook.complete("%services logs Echo --level ") == list(LEVELS)
    assert notebook.complete("%services logs Echo --api ") == ["say"]
    assert "Echo" not in notebook.complete("%services logs Echo --trace ")
    assert "--all" not in notebook.complete("%services nonsense --a")


SHOP = """
%%service
class Shop:
    '''Sells.'''

    @api
    async def price(self, item: str, count: int = 1) -> float:
        '''What it costs.'''
        return count * 0.5

    @api(route="/all")
    def items(self):
        yield "apple"

class Plain:
    @api
    def nothing(self) -> None: ...
"""
APIS = {"price": "async api (item: str, count: int = 1) -> float", "items": "api ()"}


@pytest.fixture
def shop(notebook: Notebook) -> Notebook:
    notebook.ok(SHOP)
    return notebook


def types(notebook: Notebook, text: str) -> dict[str, str]:
    """What Tab offers at the "|", in its order, with what is shown beside it."""
    before, _, after = text.partition("|")
    with provisionalcompleter():
        found = list(notebook.shell.Completer.completions(before + after, len(before)))
    unbroken = str.maketrans("\N{NO-BREAK SPACE}\N{NON-BREAKING HYPHEN}", " -")
    return {c.text: c.type.translate(unbroken) for c in found}


def test_apis_of_a_service_come_first_with_their_signatures(shop: Notebook) -> None:
    offered = types(shop, "Shop.")
    assert list(offered.items())[:2] == list(APIS.items())
    assert list(offered)[2:] == ["to_async", "to_sync", "url", "token", "graph", "asgi", "name", "inner", "spec"]
    assert types(shop, "print(Shop.to_async.|)") == types(shop, "Shop.to_sync.") == APIS
    assert types(shop, "x = await Shop.to_async.pr") == {"price": APIS["price"]}
    shop.ok("proxy = Shop.to_async")
    assert types(shop, "proxy.pr") == {"price": APIS["price"]}
    assert "upper" in {text.rpartition(".")[2] for text in shop.complete("'a'.up")}


BODIES = {
    "a whole class": "    @api\n    def f(self):\n        return self.shop.|",
    "awaited": "    async def f(self):\n        x = (await self.shop.to_async.|)\n\nx = 1",
    "a loop without its body": "    def f(self):\n        for x in self.shop.|",
    "an open bracket above": "    def f(self, x):\n        if (x and\n            self.shop.|",
    "an open line below": "    def f(self):\n        self.shop.|\n    def g(",
}


@pytest.mark.parametrize("target", ["depends(Shop)", 'nbcompose.depends("Shop")'])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("above", ["", "%%service --replicas 2\nimport os\n!ls\n"])
def test_apis_of_a_dependency_of_the_class_that_is_written(shop: Notebook, above: str, body: str, target: str) -> None:
    offered = types(shop, f"{above}class B:\n    pass\nclass A:\n    shop = {target}\n{body}")
    assert list(offered.items())[:2] == list(APIS.items())
    assert list(offered)[2:] == ([] if "to_async" in body else ["to_async", "to_sync"])


NEW = """
class New:
    @api
    def one(self, n: int = 1) -> int: ...
    @nbcompose.api(name='b')
    async def b(self): ...
    def other(self): ...
"""


def test_apis_of_other_dependencies(shop: Notebook) -> None:
    """One that a base declares, of a class that has not run, elsewhere; and what is none."""
    shop.ok("%%service\nclass Base:\n    shop = depends(Shop)\n    @api\n    def f(self) -> int: return 1")
    assert list(types(shop, "class A(Base):\n    def f(self):\n        self.shop.|"))[:2] == list(APIS)
    offered = types(shop, f"{NEW}class A:\n    new: object = depends(New)\n    def f(self):\n        return self.new.|")
    assert list(offered.items())[:2] == [("one", "api (n: int=1) -> int"), ("b", "async api ()")]
    assert "other" not in offered
    elsewhere = "class A:\n    far = depends(url='http://x')\n    def f(self):\n        return self.far.|"
    assert list(types(shop, elsewhere)) == ["to_async", "to_sync"]
    assert "to_async" not in types(shop, "class A:\n    far = 1\n    def f(self):\n        return self.far.|")
    assert dir(shop.shell.user_ns["Base"].inner.shop) == ["items", "price", "to_async", "to_sync"]


@pytest.mark.parametrize(
    ("declaration", "first"),
    [
        ("depends(|", ["New"]),
        ("depends( |)", ["New"]),
        ("depends(S|", []),
        ("nbcompose.depends(Sh|)", []),
        ("dp(Sh|", []),
        ("depends('|", None),
        ('depends("Sh|")', None),
    ],
)
def test_services_in_the_brackets_of_depends(shop: Notebook, declaration: str, first: list[str] | None) -> None:
    shop.ok("from nbcompose import depends as dp\n@service\nclass Shelf:\n    @api\n    def f(self) -> int: ...")
    offered = types(shop, f"%%service\n{NEW}class A:\n    shop = {declaration}\n\n    @api\n    def f(self): ...")
    typed = "".join(c for c in declaration.partition("(")[2].partition("|")[0] if c.isalnum())
    assert list(offered)[: len(first or [])] == (first or [])
    assert "Shop" in offered
    assert all(name.startswith(typed) for name in offered)
    assert set(offered.values()) == {"class"}
    assert not {"A", "abs", "api"} & offered.keys()
    assert ("Shelf" in offered) == (first is not None)  # a name is that of a service that runs


def test_the_attributes_of_the_instance(shop: Notebook) -> None:
    offered = types(shop, "%%service\nclass A:\n    shop = depends(Shop)\n    def f(self):\n        self.|")
    assert {"shop", "f"} <= offered.keys()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class A:\n    shop = depends(Shop)\n    def f(self):\n        return self.|", ["shop", "f"]),
        (
            "class A:\n    limit = 1\n    shop = depends(Shop)\n    def a(this):\n        this.b = 1\n"
            "        return this.|\n\n    def below(self): ...\n\nclass Other:\n    x = 1",
            ["shop", "limit", "b", "a", "below"],
        ),
        ("class A:\n    shop = depends(Shop)\n    def f(self):\n        return self.sh|", ["shop"]),
    ],
)
def test_dependencies_are_the_first_attributes_of_the_instance(shop: Notebook, text: str, names: list[str]) -> None:
    """Told by the text alone: Jedi has them by the alphabet, and its first answer comes too late for front ends."""
    assert list(types(shop, f"%%service\n{text}")) == names


def test_attributes_that_the_text_does_not_say_are_left_to_others(shop: Notebook) -> None:
    base = "class Base:\n    def above(self): ...\n\n"
    offered = types(shop, f"{base}class A(Base):\n    e = depends(Shop)\n    def f(self):\n        self.|")
    assert {"above", "e", "f"} <= offered.keys()


DECLARED = "class A:\n    e = depends(Shop)\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "class A:\n    e = dp(Shop)\n    def f(self):\n        self.e.|", id="another name of the notebook"
        ),
        pytest.param(
            "from nbcompose import depends as needs\nclass A:\n    e = needs(Shop)\n    def f(self):\n        self.e.|",
            id="another name of the cell",
        ),
        pytest.param(f"{DECLARED}    def f(this):\n        this.e.|", id="another first parameter"),
        pytest.param(f"{DECLARED}    def __init__(self):\n        self.e.|", id="in __init__"),
        pytest.param(
            "class A:\n    def __init__(self):\n        self.e = depends(Shop)\n        self.e.|", id="a mistake"
        ),
        pytest.param(f"{DECLARED}    def f(self):\n        v = self.e\n        v.|", id="a local name"),
        pytest.param(
            f"{DECLARED}    async def f(s):\n        if s:\n            w = v = s.e\n        x = w\n        await x.|",
            id="names",
        ),
        pytest.param(
            f"{DECLARED}    def f(self):\n        v = 1\n        v = self.e\n        (v.|", id="the last value"
        ),
        pytest.param("class A:\n    def f(self):\n        s = Shop\n        s.|", id="a local name of a service"),
    ],
)
def test_apis_of_a_dependency_by_other_names(shop: Notebook, text: str) -> None:
    shop.ok("from nbcompose import depends as dp")
    assert list(types(shop, text).items())[:2] == list(APIS.items())


@pytest.mark.parametrize(
    "text",
    [
        f"{DECLARED}    def f(self):\n        v = self.e\n        v = 'a'\n        v.|",
        f"{DECLARED}    def f(self):\n        v = v\n        v.|",
        f"{DECLARED}    def f(this):\n        self.e.|",
        "class A:\n    e = other(Shop)\n    def f(self):\n        self.e.|",
        "v = Shop.price\nv.|",
    ],
)
def test_what_is_no_dependency_has_no_apis(shop: Notebook, text: str) -> None:
    assert "items" not in types(shop, text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Shop.to_async.price(|", ["item=", "count="]),
        ("await Shop.to_async.price(co|", ["count="]),
        ("Shop.to_async.price('a, (b', |", ["item=", "count="]),
        ("Shop.to_async.price(item=f(1, [2], x=3), |", ["count="]),
        ("print(f(Shop.to_async.price(item == 3, c|", ["count="]),
        ("Shop.price(cou|", ["count="]),
        ("proxy.price(cou|", ["count="]),
        (f"{DECLARED}    def f(self):\n        return self.e.price(it|", ["item="]),
        (f"{DECLARED}    def f(self):\n        v = self.e.to_async\n        return await v.price(it|", ["item="]),
        (f"{NEW}class A:\n    new = depends(New)\n    def f(self):\n        self.new.one(|", ["n="]),
        ("Shop.to_async.price(item=co|", []),
        ("Shop.to_async.price('co|", []),
        ("Shop.to_async.price([co|", []),
        ("Shop.to_async.items(|", []),
        ("Shop.to_async.price().co|", []),
    ],
)
def test_names_of_the_arguments_of_an_api(shop: Notebook, text: str, names: list[str]) -> None:
    shop.ok("proxy = Shop.to_async")
    assert [name for name in types(shop, text) if name in ("item=", "count=", "n=")] == names


READER = """
from collections.abc import AsyncIterator
@service
class Reader:
    @api
    async def refine(self, text: AsyncIterator[str], style: str = "short") -> AsyncIterator[str]:
        async for piece in text:
            yield piece
"""
BODY = "class A:\n    r = depends(Reader)\n    @api\n    "


def test_an_api_that_takes_a_stream(shop: Notebook) -> None:
    shop.ok(READER)
    signature = "(text: AsyncIterator[str], style: str = 'short') -> AsyncIterator[str]"
    assert types(shop, "Reader.re") == {"refine": f"async api {signature}"}
    assert types(shop, f"%%service\n{BODY}def f(self):\n        self.r.re") == {"refine": f"async api {signature}"}
    for called in ("Reader.refine(", f"%%service\n{BODY}def f(self):\n        self.r.refine("):
        assert {"text=", "style="} <= set(types(shop, called))
    found = shop.shell.object_inspect_mime("Reader.refine")
    assert found["text/plain"].splitlines()[0].split() == f"Signature: Reader.refine{signature}".split()


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("async def f(self, text: AsyncIterator[str]):\n        text.|", {"aclose": "async () -> None"}),
        (
            "async def f(self, *, t: Optional[abc.AsyncGenerator[int]] = None):\n        await t.ac|",
            {"aclose": "async () -> None"},
        ),
        ("def f(self, text: Iterator[str]):\n        text.|", {"close": "() -> None"}),
        ("def f(self, text: Iterable[str]):\n        text.cl|", {}),  # a list
        ("def f(self, text: Iterator[str]):\n        other.cl|", {}),
        (
            "def f(self, text: Iterator[str]):\n        pass\n    def g(self, text: Iterator[str]):\n        text.cl|",
            {},
        ),
    ],
)
def test_a_parameter_that_takes_a_stream(notebook: Notebook, text: str, offered: dict[str, str]) -> None:
    found = types(notebook, f"%%service\n{BODY}{text}")
    assert {name: kind for name, kind in found.items() if name.strip(".").endswith("close")} == offered


def test_what_there_is_for_streams(notebook: Notebook) -> None:
    notebook.ok("import nbcompose")
    offered = {text.rpartition(".")[2] for text in notebook.complete("nbcompose.streams.")}
    assert {"tee", "map"} <= offered


# -- help


def test_help_of_an_api(shop: Notebook) -> None:
    assert str(inspect.signature(shop.shell.user_ns["Shop"].price)) == "(item: str, count: int = 1) -> float"
    text = shop.ok("help(Shop.price)").stdout
    for line in (
        "(item: str, count: int = 1) -> float",
        "What it costs.",
        "Call: `Shop.price(...)` waits for the answer; `await Shop.to_async.price(...)` does not block the event loop.",
        "HTTP: POST /price",
    ):
        assert line in text
    streamed = "Call: `for item in Shop.items(...):`; `async for item in Shop.to_async.items(...):`."
    assert streamed in shop.ok("help(Shop.items)").stdout


@pytest.mark.parametrize("name", ["Shop.price", "Plain.nothing", "Plain.to_async.nothing", "Shop", "Plain"])
def test_help_shows_no_internals(shop: Notebook, name: str) -> None:
    text = shop.ok(f"help({name})").stdout
    assert "Methods defined here" not in text
    assert "Data descriptors" not in text


def test_help_of_a_service(shop: Notebook) -> None:
    text = shop.ok("help(Shop)").stdout
    assert "    Sells.\n" in text
    assert "  async price(item: str, count: int = 1) -> float\n" in text
    assert "`Shop.price(...)` calls the running service" in text


def test_help_by_question_mark(shop: Notebook) -> None:
    found = shop.shell.object_inspect_mime("Shop.price")
    signature, doc, call, http = found["text/plain"].splitlines()
    assert signature == "Signature: Shop.price(item: str, count: int = 1) -> float"
    assert doc == "Docstring: What it costs."
    assert call.startswith("Call:      `Shop.price(...)` waits for the answer; `await Shop.to_async.price(...)` does")
    assert http == "HTTP:      POST /price"
    assert "<h1>HTTP</h1>\n<pre>POST /price</pre>" in found["text/html"]
    assert "Apis:\n  async price(item" in shop.shell.object_inspect_mime("Shop")["text/plain"]
    assert "Type:" in shop.shell.object_inspect_mime("api")["text/plain"]  # as IPython shows it


def test_help_of_a_service_that_does_not_run(shop: Notebook) -> None:
    shop.ok("@service\nclass Idle:\n    @api\n    def say(self) -> str:\n        'Says.'\n        return ''")
    assert "Docstring: Says." in shop.shell.object_inspect_mime("Idle.say")["text/plain"]
    assert next(iter(types(shop, "Idle."))) == "say"


def test_help_of_a_dependency_says_how_its_apis_are_declared(shop: Notebook) -> None:
    shop.ok("class User:\n    shop = depends(Shop)\n    @api\n    def f(self) -> int: return 1")
    shop.ok("user = service(User)()")
    assert "`await self.shop.price(...)` does not block" in str(shop.shell.user_ns["user"].shop.price.__doc__)


def test_other_lines_are_left_to_others(notebook: Notebook) -> None:
    for text in ("%%time --de", "x = 1 --de", "%%service\nclass A: pass\n--de"):
        assert "--device" not in notebook.complete(text)


def test_a_dependency_of_a_service_that_runs(clean: Notebook) -> None:
    clean.ok(ECHO)
    clean.ok("""
        %%service
        class Above:
            below = depends(Echo)
            @api
            def go(self) -> str:
                return self.below.say("x")
    """)
    assert clean.complete("Above.below.")[:3] == ["say", "to_async", "to_sync"]
    assert clean.complete("Above.below.s")[:1] == ["say"]
