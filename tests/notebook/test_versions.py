"""What a service takes along is of one moment and one version, in a real shell with real replicas."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.system

Notebook = Any  # of conftest.py


@pytest.fixture
def clean(started: Notebook) -> Notebook:
    """A shell whose replicas are forked, and one whose replicas start cold; without any service of an earlier test."""
    started.ok("%services stop --all")
    return started


ORDER = "from dataclasses import dataclass\n@dataclass\nclass Order:\n    id: int\n"
SHOP = """
%%service {options}
class Shop:
    @api
    def total(self, order: Order, more: list[Order] | None = None) -> str:
        return f"{{order}} {{more}}"

    @api
    async def later(self, order: Order) -> Order:
        return order

    @api
    def usual(self, order: Order = Order(3)) -> str:
        return f"{{order}} {{isinstance(order, Order)}}"
"""
FRONT = """
%%service
class Front:
    shop = depends("Shop")
    @api
    def total(self, order: Order) -> str:
        return self.shop.total(order)
"""


def row(notebook: Notebook, name: str) -> str:
    """The state of a service in `%services`."""
    return str(next(r[1] for r in notebook.ok("%services").result.rows if r[0] == name))


# -- a class in annotations, defaults and values


@pytest.mark.parametrize("options", ["", "--replicas 3"])
def test_a_class_that_was_run_again_is_taken_everywhere_by_a_refresh(clean: Notebook, options: str) -> None:
    clean.ok(ORDER)
    clean.ok(SHOP.format(options=options))
    clean.ok(FRONT)
    assert clean.ok("Front.total(Order(1))").result == "Order(id=1) None"
    clean.ok(ORDER + "    note: str = ''\n")
    assert row(clean, "Shop") == "ready, stale: Order, Shop.usual"
    assert row(clean, "Front") == "ready, stale: Order"
    assert "class Order changed" in clean.ok("%services refresh").plain
    assert row(clean, "Shop") == row(clean, "Front") == "ready"
    clean.ok("order = Order(1, note='gift')")
    said = "Order(id=1, note='gift')"
    assert clean.ok("[Shop.total(order) for _ in range(3)]").result == [f"{said} None"] * 3
    assert clean.ok("Shop.total(order, more=[order])").result == f"{said} [{said}]"
    assert clean.ok("Front.total(order)").result == f"{said} None"
    assert clean.ok("Shop.later(order) == order").result is True
    assert clean.ok("Shop.usual()").result == "Order(id=3, note='') True"
    assert clean.ok("Shop().total(order), Front().total(order)").result == (f"{said} None",) * 2
    over_http = """
        import httpx
        head = {"Authorization": f"Bearer {Shop.token}"}
        httpx.post(Shop.url + "/total", json={"order": {"id": 2, "note": "x"}}, headers=head).json()
    """
    assert clean.ok(over_http).result == "Order(id=2, note='x') None"


@pytest.mark.parametrize("first", ["asked", "stale"])
def test_auto_refresh_takes_it_too(clean: Notebook, first: str) -> None:
    clean.ok(ORDER)
    clean.ok(SHOP.format(options=""))
    if first == "stale":
        clean.ok(ORDER + "    note: str = ''\n")
    clean.ok("%config NbcomposeMagics.auto_refresh = True")
    try:
        if first == "asked":
            clean.ok(ORDER + "    note: str = ''\n")
        assert clean.ok("Shop.total(Order(1, note='gift'))").result == "Order(id=1, note='gift') None"
    finally:
        clean.ok("%config NbcomposeMagics.auto_refresh = False")


def test_a_value_that_a_stale_service_does_not_know_is_refused_not_cut(clean: Notebook) -> None:
    clean.ok(ORDER)
    clean.ok(SHOP.format(options=""))
    clean.ok(ORDER + "    note: str = ''\n")
    ran = clean.run("Shop.total(Order(1, note='gift'))")
    assert "Order is another one where this value was made" in ran.error
    assert "does not fit: note is not known. `%services refresh` brings services up to date" in ran.error


VALUES = [
    pytest.param(ORDER, ORDER + "    note: str = ''\n", "Order(7)", "Order(id=7, note='')", id="dataclass"),
    pytest.param(
        "from typing import NamedTuple\nclass Pair(NamedTuple):\n    x: int\n",
        "class Pair(NamedTuple):\n    x: int\n    y: int = 5\n",
        "Pair(7)",
        "Pair(x=7, y=5)",
        id="named tuple",
    ),
    pytest.param(
        "from pydantic import BaseModel\nclass Item(BaseModel):\n    x: int\n",
        "class Item(BaseModel):\n    x: int\n    y: int = 5\n",
        "Item(x=7)",
        "Item(x=7, y=5)",
        id="model",
    ),
    pytest.param(
        "import enum\nclass Color(enum.Enum):\n    RED = 1\n",
        "class Color(enum.Enum):\n    BLUE = 1\n    RED = 2\n",
        "Color.RED",
        "<Color.RED: 2>",
        id="enum",
    ),
]


@pytest.mark.parametrize(("cell", "again", "value", "said"), VALUES)
def test_values_come_as_the_newest_class(clean: Notebook, cell: str, again: str, value: str, said: str) -> None:
    name = value.partition("(")[0].partition(".")[0]
    clean.ok(cell)
    clean.ok(f"known = [{value}, {{'a': {value}}}]\ndef show():\n    return repr(known), isinstance(known[0], {name})")
    service = f"""
        %%service
        class Shows:
            @api
            def show(self, given: {name} = {value}) -> tuple[str, bool, str]:
                return *show(), repr(given)
    """
    clean.ok(service)
    clean.ok(again)
    clean.ok("%services refresh")
    assert clean.ok("Shows.show()").result == (f"[{said}, {{'a': {said}}}]", True, said)


def test_a_value_that_does_not_fit_changes_nothing_and_says_what_to_run(clean: Notebook) -> None:
    clean.ok(ORDER + "sample = Order(7)")
    clean.ok("""
        %%service
        class Shop:
            @api
            def total(self, order: Order | None = None) -> str:
                return str(order or sample)
    """)
    clean.ok(ORDER.partition("\n")[2] + "    note: str\n")
    ran = clean.run("%services refresh")
    assert (
        "CaptureError: Shop uses 'sample', made from Order as it was before the cell of Order was run again, which "
        "does not fit (note: is missing): run the cell that makes it again"
    ) in ran.error
    assert clean.ok("Shop.total()").result == "Order(id=7)"
    clean.ok("sample = Order(8, 'x')")
    clean.ok("%services refresh")
    assert clean.ok("Shop.total(), Shop.total(Order(1, 'y'))").result == (
        "Order(id=8, note='x')",
        "Order(id=1, note='y')",
    )


NET = "class Net:\n    def f(self):\n        return {}\n"


def test_an_object_keeps_its_class_where_only_that_goes(clean: Notebook) -> None:
    """As in the notebook: the model of an hour's training is what it was."""
    clean.ok(NET.format(1) + "net = Net()")
    service = "%%service\nclass Model:\n    @api\n    def go(self) -> int:\n        return net.f(){}"
    clean.ok(service.format(""))
    clean.ok(NET.format(2))
    assert row(clean, "Model") == "ready"
    clean.ok(service.format(" + 10"))
    assert clean.ok("Model.go()").result == 11
    ran = clean.run(service.format(" + Net().f()"))
    assert (
        "CaptureError: Model uses 'net', made from Net as it was before the cell of Net was run again, and Net as it "
        "is now: run the cell that makes it again"
    ) in ran.error
    assert clean.ok("Model.go()").result == 11
    clean.ok("net = Net()")
    clean.ok(service.format(" + Net().f()"))
    assert clean.ok("Model.go()").result == 4


def test_a_class_that_was_run_again_as_it_was_makes_no_difference(clean: Notebook) -> None:
    clean.ok(NET.format(1) + "net = Net()")
    clean.ok(NET.format(1))
    clean.ok("""
        %%service
        class Model:
            @api
            def go(self) -> tuple[int, bool]:
                return net.f(), isinstance(net, Net)
    """)
    assert clean.ok("Model.go()").result == (1, True)


def test_a_class_that_is_kept_under_another_name_stays_what_it_is(clean: Notebook) -> None:
    clean.ok(ORDER + "Old = Order\n")
    clean.ok(ORDER + "    note: str = ''\n")
    clean.ok("""
        %%service
        class Moves:
            @api
            def move(self, old: Old) -> Order:
                return Order(old.id, f"was {old!r}")
    """)
    assert clean.ok("Moves.move(Old(1))").result.note == "was Order(id=1)"


def test_a_class_that_extends_the_one_before_it_keeps_it(clean: Notebook) -> None:
    clean.ok(NET.format(1))
    clean.ok("class Net(Net):\n    def f(self):\n        return 10 + super().f()")
    clean.ok("%%service\nclass Model:\n    @api\n    def go(self) -> int:\n        return Net().f()")
    assert clean.ok("Model.go()").result == 11


# -- what was made from a class


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            "class Mid(Base):\n    pass",
            "P uses Mid, which extends Base as it was before the cell of Base was run again: run the cell of Mid again",
        ),
        (
            "from pydantic import BaseModel\nclass Mid(BaseModel, arbitrary_types_allowed=True):\n"
            "    bases: list[Base]",
            "P uses Mid, which has a field bases of Base as it was before the cell of Base was run again: run the cell "
            "of Mid again",
        ),
    ],
    ids=["extends", "has a field"],
)
def test_what_was_made_from_a_class_asks_for_its_own_cell(clean: Notebook, made: str, said: str) -> None:
    clean.ok("class Base:\n    def word(self):\n        return 'old'")
    clean.ok(made)
    clean.ok("class Base:\n    def word(self):\n        return 'new'")
    service = "%%service\nclass P:\n    @api\n    def go(self) -> str:\n        return Mid.__name__"
    assert f"CaptureError: {said}" in clean.run(service).error
    clean.ok(made)
    clean.ok(service)
    assert clean.ok("P.go()").result == "Mid"


def test_a_function_that_a_class_holds_is_said_to_be_an_older_one(clean: Notebook) -> None:
    clean.ok("def clean_up(x):\n    return x + 1\ndef rank(x):\n    return x")
    service = """
        %%service
        class Holds:
            tidy = staticmethod(clean_up)
            @api
            def go(self, x: int) -> int:
                return self.tidy(x) + self.ranked(x)
            def ranked(self, x, by=rank):
                return by(x)
    """
    clean.ok(service)
    assert row(clean, "Holds") == "ready"
    clean.ok("def clean_up(x):\n    return x + 2\ndef rank(x):\n    return -x")
    again = "(run the cell of Holds again)"
    assert row(clean, "Holds") == f"ready, stale: clean_up {again}, rank {again}"
    clean.ok(service)
    assert (row(clean, "Holds"), clean.ok("Holds.go(1)").result) == ("ready", 2)


# -- services that extend services

BASE = """
%%service
class Base:
    leaf = depends("Leaf")
    def __init__(self):
        self.words = [{word!r}]
    @api
    def say(self) -> str:
        return "base"
    @api
    async def other(self, n: int = 2) -> list[str]:
        return self.words * n
"""
LOUD = """
%%service {options}
class Loud({base}):
    def __init__(self):
        super().__init__()
        self.loud = True
    @api
    def say(self) -> str:
        return f"{{super().say()}} {{self.words}} {{self.leaf.one()}}"
"""
LEAF = "%%service\nclass Leaf:\n    @api\n    def one(self) -> int:\n        return 1"


@pytest.mark.parametrize("options", ["", "--replicas 3"])
@pytest.mark.parametrize("base", ["Base", "Mid"])
def test_a_service_that_extends_a_service(clean: Notebook, base: str, options: str) -> None:
    clean.ok(LEAF)
    clean.ok(BASE.format(word="a"))
    clean.ok("class Mid(Base):\n    pass")
    clean.ok(LOUD.format(base=base, options=options))
    assert clean.ok("[Loud.say() for _ in range(3)]").result == ["base ['a'] 1"] * 3
    assert clean.ok("Loud.other(), Base.say()").result == (["a", "a"], "base")
    assert clean.ok("Loud().say(), await Loud().other(1)").result == ("base ['a'] 1", ["a"])
    head = 'headers={"Authorization": f"Bearer {Loud.token}"}'
    asked = f'__import__("httpx").post(Loud.url + "/other", json={{"n": 3}}, {head}).json()'
    assert clean.ok(asked).result == ["a"] * 3
    clean.ok(BASE.format(word="b"))
    cell = "Loud" if base == "Base" else "Mid"
    assert row(clean, "Loud") == f"ready, stale: Base (run the cell of {cell} again)"
    assert f"Base as it was before the cell of Base was run again: run the cell of {cell} again" in (
        clean.run("%services refresh").error
    )
    assert clean.ok("Loud.say()").result == "base ['a'] 1"
    clean.ok("class Mid(Base):\n    pass")
    clean.ok(LOUD.format(base=base, options=options))
    assert clean.ok("Loud.say()").result == "base ['b'] 1"


def test_the_export_has_both_classes(clean: Notebook, tmp_path: Any) -> None:
    clean.ok(LEAF)
    clean.ok(BASE.format(word="a"))
    clean.ok(LOUD.format(base="Base", options=""))
    clean.ok("Loud.say(), Loud.other()")
    ran = clean.ok(f"%export {tmp_path / 'script.py'} --check")
    text = (tmp_path / "script.py").read_text()
    assert "class Base:" in text
    assert "class Loud(Base):" in text
    assert "different" not in ran.plain
    assert "Loud.other" in ran.plain


def test_the_init_of_a_service_is_called_by_super(clean: Notebook) -> None:
    clean.ok("%%service\nclass Base:\n    @api\n    def say(self) -> str:\n        return 'a'")
    cell = LOUD.format(base="Base", options="").replace("super().__init__()", "Base.__init__(self)")
    assert "TypeError: Loud extends a service: write `super().__init__()`" in clean.run(cell).error


def test_a_method_of_the_base_is_reached_by_super(clean: Notebook) -> None:
    clean.ok("%%service\nclass Base:\n    @api\n    def say(self) -> str:\n        return 'a'")
    cell = LOUD.format(base="Base", options="").replace("super().say()", "Base.say(self)")
    clean.ok(cell.replace("{self.words} {self.leaf.one()}", ""))
    error = clean.run("Loud.say()").error
    assert "Loud extends Base, which is a service: write `super()` for `Base`" in error


def test_a_service_that_extends_a_generic_class(clean: Notebook) -> None:
    clean.ok("""
        from typing import Generic, TypeVar
        from pydantic import BaseModel
        T = TypeVar("T")
        M = TypeVar("M", bound=BaseModel)
        class Item(BaseModel):
            x: int
        class Echo(Generic[M, T]):
            @api
            def echo(self, item: M, more: list[T] | None = None) -> tuple[M, list[T]]:
                return item, more or []
        class Words(Echo[M, str], Generic[M]):
            pass
    """)
    ran = clean.ok("%%service\nclass Items(Words[Item]):\n    pass")
    assert "echo(item: Item, more: list[str] | None = None) -> tuple[Item, list[str]]" in ran.plain
    assert repr(clean.ok("Items.echo({'x': 1}, ['a'])").result) == "(Item(x=1), ['a'])"
    assert "item.x: Input should be a valid integer" in clean.run("Items.echo({'x': 'a'})").error
    assert "more.0: Input should be a valid string" in clean.run("Items.echo({'x': 1}, [1])").error
    clean.ok("""
        %%service
        class Front:
            items = depends(Items)
            @api
            def ask(self, x: int) -> str:
                return repr(self.items.echo({"x": x}))
    """)
    assert clean.ok("Front.ask(2), repr(Items().echo({'x': 3}))").result == ("(Item(x=2), [])", "(Item(x=3), [])")


# -- a swap

GLOBALS = """
import enum, functools
from pydantic import BaseModel, field_validator
LIMIT = 1
def low():
    return LIMIT
class Net:
    made = 0
    def method(self):
        return LIMIT
    @property
    def attribute(self):
        return low()
    @staticmethod
    def static():
        return LIMIT
    @functools.cached_property
    def cached(self):
        return LIMIT
    @functools.lru_cache
    def remembered(self):
        return LIMIT
class Color(enum.Enum):
    RED = 1
    def method(self):
        return LIMIT
class Item(BaseModel):
    x: int
    @field_validator("x")
    @classmethod
    def add(cls, x):
        return x + LIMIT
@functools.lru_cache
def helper():
    return LIMIT
@functools.lru_cache
def loaded():
    import time
    return time.perf_counter()
part = functools.partial(low)
table = {"a": low}
"""


def test_new_values_are_seen_by_all_code_that_a_swap_keeps(clean: Notebook) -> None:
    clean.ok(GLOBALS)
    clean.ok("""
        %%service
        class Reads:
            @api
            def all(self) -> list[int]:
                Net.made += 1
                net = Net()
                return [
                    net.method(), net.attribute, net.static(), net.cached, net.remembered(), Color.RED.method(),
                    Item(x=0).x, low(), helper(), part(), table["a"](), Net.made,
                ]
            @api
            def kept(self) -> float:
                return loaded()
            @api
            def old(self, net: Net | None = None) -> int:
                if net is not None:
                    self.net = net
                return self.net.method()
    """)
    assert clean.ok("Reads.all(), Reads.all()").result == ([1] * 12, [1] * 11 + [2])
    clean.ok("before = Reads.kept()\nReads.old(Net())")
    clean.ok("LIMIT = 2")
    assert "code swapped, weights kept: LIMIT changed" in clean.ok("%services refresh").plain
    # What classes have counted, and what was remembered that does not depend on it, is as it was.
    assert clean.ok("Reads.all()").result == [2] * 11 + [3]
    assert clean.ok("Reads.kept() == before, Reads.old()").result == (True, 2)


def test_instances_of_classes_with_caches_go_over_the_wire(clean: Notebook) -> None:
    clean.ok(GLOBALS)
    clean.ok("%%service\nclass Takes:\n    @api\n    def net(self, net: Net) -> int:\n        return net.cached")
    assert clean.ok("Takes.net(Net())").result == 1
