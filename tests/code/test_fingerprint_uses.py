"""Edits of what methods use: decorators, helpers, classes, models of what an api takes."""

from __future__ import annotations

import textwrap

import pytest

from nbcompose._code.diff import compare
from tests.code.conftest import F, Notebook, answer, check

DECORATORS = """
def plain(factor):
    def decorate(f):
        def wrapper(self):
            return f(self) * factor
        return wrapper
    return decorate

def wrapped(factor):
    def decorate(f):
        @wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **kwargs) * scale(factor)
        return wrapper
    return decorate

def scale(x):
    return x

@contextmanager
def opened(path):
    yield "opened"

@lru_cache(maxsize=8)
def remembered(x):
    return x + 10

def mine(x):
    return "mine"
"""

USES = """
class Answer:
    def __init__(self):
        self.x = 1

    @plain(2)
    def first(self):
        return 1.5

    @wrapped(3)
    def second(self):
        return 2.5

    @lru_cache(maxsize=4)
    def third(self):
        return 3.5

    def _fourth(self, mode):
        return 4.5

    fourth = partialmethod(_fourth, mode="fast")

    def fifth(self):
        with opened("x"):
            return remembered(1), HANDLERS["a"](1), DOUBLE(2), HALF(3), TABLE

    def sixth(self, shout=mine, *, item=None):
        return Item(1), Kind.ONE, Reply(text="x"), KEPT

    @api
    def say(self, item: "Item" = None) -> "Reply":
        return None

    @wrapped(1)
    @plain(1)
    @api
    def again(self) -> int:
        return 5
"""
THINGS = """
TABLE = np.arange(4)

def handle(x):
    return x * SCALE

SCALE = 5
HANDLERS = {"a": handle}
DOUBLE = lambda x: x * 20
HALF = partial(handle, x=7)

@dataclass
class Item:
    number: int
    texts: list = field(default_factory=list)

    def total(self):
        return self.number + OFFSET

OFFSET = 9

class Kind(enum.Enum):
    ONE = 1

class Reply(TypedDict):
    text: str

KEPT = Item(11)
"""

USED = [
    ("f(self) * factor", "f(self) + factor", "swap", "Answer.first changed"),
    ("@plain(2)", "@plain(4)", "swap", "Answer.first changed"),
    ("@plain(2)\n    def", "def", "swap", "Answer.first changed"),
    ("1.5", "1.6", "swap", "Answer.first changed"),
    ("@wrapped(3)", "@wrapped(4)", "swap", "Answer.second changed"),
    ("2.5", "2.6", "swap", "Answer.second changed"),
    ("def scale(x):\n    return x", "def scale(x):\n    return -x", "swap", "scale changed"),
    ("return 5\n", "return 6\n", "swap", "Answer.again changed"),
    ("3.5", "3.6", "swap", "Answer.third changed"),
    ("maxsize=4", "maxsize=5", "swap", "Answer.third changed"),
    ("4.5", "4.6", "swap", "Answer._fourth changed"),
    ('mode="fast"', 'mode="slow"', "swap", "Answer.fourth changed"),
    ('yield "opened"', 'yield "closed"', "swap", "opened changed"),
    ("x + 10", "x + 11", "swap", "remembered changed"),
    ("maxsize=8", "maxsize=9", "swap", "remembered changed"),
    ('return "mine"', 'return "yours"', "swap", "mine changed"),
    ("shout=mine", "shout=None", "swap", "Answer.sixth changed"),
    ("item=None", "item=0", "swap", "Answer.sixth changed"),
    ("return x * SCALE", "return x / SCALE", "swap", "HANDLERS changed"),
    ("SCALE = 5", "SCALE = 6", "swap", "HANDLERS changed"),
    ("SCALE = 5", "SCALE = 6", "swap", "HALF changed"),
    ("x * 20", "x * 21", "swap", "DOUBLE changed"),
    ("x=7", "x=8", "swap", "HALF changed"),
    ("np.arange(4)", "np.arange(5)", "swap", "TABLE changed"),
    ("np.arange(4)", "np.arange(4.0)", "swap", "TABLE changed"),
    ("np.arange(4)", "np.array([0, 1, 2, 3])", "nothing", ""),
    ("number: int", "number: int\n    more: int = 0", "swap", "class Item changed"),
    ("number: int", "number: float", "swap", "class Item changed"),
    ("self.number + OFFSET", "self.number - OFFSET", "swap", "class Item changed"),
    ("OFFSET = 9", "OFFSET = 8", "swap", "OFFSET changed"),
    ("ONE = 1", "ONE = 2", "swap", "class Kind changed"),
    ("text: str", "text: int", "swap", "class Reply changed"),
    ("text: str", "text: str\n    more: int", "swap", "class Reply changed"),
    ("KEPT = Item(11)", "KEPT = Item(12)", "swap", "KEPT changed"),
    ("KEPT = Item(11)", "# the same\nKEPT = Item(number=11)", "nothing", ""),
]


@pytest.mark.parametrize(("old", "new", "action", "word"), USED, ids=lambda v: textwrap.shorten(str(v), 30))
def test_what_methods_use(notebook: Notebook, old: str, new: str, action: str, word: str) -> None:
    text = DECORATORS + THINGS + USES
    assert old in text
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text.replace(old, new, 1))), action, word)


def test_what_init_uses_besides_is_no_swap(notebook: Notebook) -> None:
    """The same edits, where `__init__` calls the methods that use it all."""
    text = (DECORATORS + THINGS + USES).replace("self.x = 1", "[self.first, self.second, self.fifth, self.sixth]")
    before = notebook.serve(text)
    for old, new, action, word in USED:
        if action == "swap" and not word.startswith("Answer") and word != "opened changed":
            notebook.serve(text)
            plan = compare(before, notebook.serve(text.replace(old, new, 1)))
            assert plan.action == "replace", old


# -- classes that are made anew by running their cell again

ITEM = {
    "plain": "class Item:\n    def total(self):\n        return 1\n",
    "dataclass": "@dataclass\nclass Item:\n    x: int = 1\n",
    "enum": "class Item(enum.Enum):\n    ONE = 1\n",
    "pydantic": "import pydantic\nclass Item(pydantic.BaseModel):\n    x: int = 1\n",
    "generic": "T = TypeVar('T')\nclass Item(Generic[T]):\n    pass\n",
}


@pytest.mark.parametrize("item", ITEM.values(), ids=ITEM.keys())
def test_a_class_made_anew(notebook: Notebook, item: str) -> None:
    by_init = answer("self.x = Item", F)
    by_method = answer("self.x = 1", F, "def g(self):\n    return Item")
    for text, action, word in (
        (by_init, "replace", "Item was defined anew, and Answer.__init__ uses it"),
        (by_method, "swap", "Answer.f changed"),
    ):
        notebook.run(item)
        before = notebook.serve(text)
        notebook.run(item)
        check(compare(before, notebook.serve(text)), "nothing", "")
        check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), action, word)


def test_a_value_of_a_class_made_anew_travels_with_the_class(notebook: Notebook) -> None:
    things = "class Item:\n    pass\nKEPT = Item()\nOTHER = 1\n"
    text = answer("self.x = 1", F, "def g(self):\n    return isinstance(KEPT, Item), OTHER")
    notebook.run(things)
    before = notebook.serve(text)
    notebook.run(things)
    check(compare(before, notebook.serve(text)), "nothing", "")
    plan = compare(before, notebook.serve(text.replace("'old'", "'new'")))
    check(plan, "swap", "Answer.f changed")
    assert {"KEPT", "Item", "Answer.f"} == plan.changed


def test_a_class_in_the_class_made_anew(notebook: Notebook) -> None:
    text = answer("self.x = self.Config()", F, "class Config:\n    depth = 1")
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), "replace", "Answer.Config was defined anew")
    check(compare(before, notebook.serve(text.replace("depth = 1", "depth = 2"))), "replace", "Answer.Config changed")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("x: int = 1", "x: float = 1", "class Query changed"),
        ("x: int = 1", "x: int = 2", "class Query changed"),
        ("x: int = 1", "x: int = 1\n    y: int = 1", "class Query changed"),
        ("gt=0", "gt=1", "class Query changed"),
        ("return v", "return v + 1", "class Query changed"),
        ('mode="after"', 'mode="before"', "class Query changed"),
        ("z: int = 3", "z: int = 4", "class Part changed"),
    ],
)
def test_a_pydantic_model_of_an_api(notebook: Notebook, old: str, new: str, word: str) -> None:
    text = """
import pydantic
class Part(pydantic.BaseModel):
    z: int = 3

class Query(pydantic.BaseModel):
    x: int = 1
    part: Part = Part()
    n: Annotated[int, pydantic.Field(gt=0)] = 1

    @pydantic.field_validator("x", mode="after")
    @classmethod
    def checked(cls, v):
        return v

class Answer:
    @api
    def say(self, query: Query) -> int:
        return 1
"""
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace(old, new))), "swap", word)


def test_annotations_with_more_to_them(notebook: Notebook) -> None:
    text = """
from pydantic import AfterValidator
def positive(x):
    return abs(x)

class Answer:
    @api
    def say(self, n: list[Annotated[int, AfterValidator(positive)]], m: "Annotated[int, 'old']" = 1) -> int:
        return 1
"""
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("abs(x)", "-x"))), "swap", "Answer.say changed")
    check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), "swap", "Answer.say changed")


def test_annotations_as_text(notebook: Notebook) -> None:
    text = "@dataclass\nclass Part:\n    x: int = 1\n@dataclass\nclass Item:\n    part: 'Part' = None\n"
    text += answer("", "def f(self, item: 'Item'):\n    return item")
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace("x: int = 1", "x: int = 2"))), "swap", "class Part changed")
