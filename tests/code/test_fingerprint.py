"""A cell of a service that is run again with one edit, and what that means for the service that runs."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from nbcompose._code.diff import compare
from tests.code.conftest import Notebook, check

CELL = '''
LIMIT = 3
PATH = "a model"
STATE = None

def helper(text):
    "Makes it loud."
    return text.upper() + "."

def load(path):
    return deeper(path)

def deeper(path):
    return [path, 1]

class Base:
    def shout(self):
        return "hey there"

class Answer(Base):
    "Says it again."
    greeting = {"en": "hello there", "de": "hallo"}
    size = 3
    model = HuggingFaceModel("org/name", revision="main")
    other = depends("Other")

    def __init__(self):
        "Loads."
        super().__init__()
        self.words = {"one", "two", "three"}
        self.model_ = load(PATH)
        self._prepare()

    def _prepare(self):
        self.ready = [word for word in self.words if len(word) > 2]

    def unused(self):
        return 1

    @on_shutdown
    def close(self):
        self.ready = None

    @api
    def say(self, text: str = "a b", count: int = 2) -> list[str]:
        """Says it.

        Often."""
        return [helper(text)] * (count + LIMIT) + [self.shout(), self._inner()]

    def _inner(self):
        def twice(x):
            return x * 2
        return [twice(y) for y in self.words if (lambda z: z)(y)]

    @property
    def length(self):
        return len(self.words)

    @cached_property
    def kept(self):
        return list(self.words)

    @staticmethod
    def fixed(x):
        return math.sqrt(x)

    @classmethod
    def named(cls):
        return cls.greeting

    @api(name="count", route="/count")
    def count_words(self, n: int = 1) -> int:
        return len(self.words) + n
'''

EDITS = [
    # layout, comments, places
    ("LIMIT = 3\n", "\n\n# a comment\nLIMIT = 3\n", "nothing", ""),
    ("    @api\n", "\n    # why\n    @api\n", "nothing", ""),
    ("self.model_ = load(PATH)", "self.model_ = load(\n            PATH,\n        )  # slow", "nothing", ""),
    ("[helper(text)] * (count + LIMIT)", "[\n    helper(text)\n] * (\n    count\n    + LIMIT\n)", "nothing", ""),
    ("word for word in self.words if len(word) > 2", "word\nfor word in self.words\nif len(word) > 2", "nothing", ""),
    ("    def unused(self):\n        return 1\n", "    def unused(self): return 1\n", "nothing", ""),
    ('"Says it again."', "'Says it again.'", "nothing", ""),
    # texts
    ("Says it again.", "Says it once.", "swap", "Answer.__doc__ changed"),
    ("Says it.\n", "Says it, loudly.\n", "swap", "Answer.say changed"),
    ("Makes it loud", "Makes it very loud", "swap", "helper changed"),
    ('"Loads."', '"Loads what is needed."', "nothing", ""),
    # methods
    ("return 1\n", "return 2\n", "swap", "Answer.unused changed"),
    ("return 1\n", "return 1.0\n", "swap", "Answer.unused changed"),
    ("return 1\n", "return True\n", "swap", "Answer.unused changed"),
    ("    def unused(", "    def brand_new(self):\n        pass\n\n    def unused(", "swap", "Answer.brand_new is new"),
    ("    def unused(self):\n        return 1\n", "", "swap", "Answer.unused is gone"),
    ("    def unused(", "    @api\n    def unused(", "swap", "Answer.unused changed"),
    ("    @api\n    def say", "    def say", "swap", "Answer.say changed"),
    ("def say(", "def tell(", "swap", "Answer.tell is new"),
    ('name="count"', 'name="number"', "swap", "Answer.count_words changed"),
    ('route="/count"', 'route="/number"', "swap", "Answer.count_words changed"),
    (
        "    @api\n    def say(self, text: str",
        "    @api(batchable=True)\n    def say(self, text: list[str]",
        "swap",
        "Answer.say",
    ),
    ("count: int = 2", "count: int = 4", "swap", "Answer.say changed"),
    ("count: int = 2", "*, count: int = 2", "swap", "Answer.say changed"),
    ("count: int", "count: float", "swap", "Answer.say changed"),
    ("-> list[str]", "-> list", "swap", "Answer.say changed"),
    ("def count_words(", "async def count_words(", "swap", "Answer.count_words changed"),
    (
        "-> int:\n        return len(self.words) + n",
        "-> typing.Iterator[int]:\n        yield n",
        "swap",
        "Answer.count_words",
    ),
    ("return x * 2", "return x * 3", "swap", "Answer._inner changed"),
    ("(lambda z: z)", "(lambda z: not z)", "swap", "Answer._inner changed"),
    ("[twice(y) for y", "[twice(y + y) for y", "swap", "Answer._inner changed"),
    ("return len(self.words)\n", "return len(self.words) + 1\n", "swap", "Answer.length changed"),
    ("    @property\n", "", "swap", "Answer.length changed"),
    ("return list(self.words)", "return set(self.words)", "replace", "Answer.kept changed"),
    ("math.sqrt(x)", "math.exp(x)", "swap", "Answer.fixed changed"),
    ("@staticmethod\n    def fixed(x)", "@classmethod\n    def fixed(cls, x)", "swap", "Answer.fixed changed"),
    ("return cls.greeting", "return dict(cls.greeting)", "swap", "Answer.named changed"),
    ("    @on_shutdown\n", "", "swap", "Answer.close changed"),
    ("self.ready = None", "self.ready = 0", "swap", "Answer.close changed"),
    # helpers and values
    ('+ "."', '+ "!"', "swap", "helper changed"),
    ("text.upper", "text.lower", "swap", "helper changed"),
    ("LIMIT = 3", "LIMIT = 4", "swap", "LIMIT changed"),
    ("LIMIT = 3", "LIMIT = 3.0", "swap", "LIMIT changed"),
    ("hey there", "hey", "swap", "Base.shout changed"),
    ("return [helper(text)]", "return [load(text)]", "swap", "Answer.say changed"),
    # what an instance is made by
    ('"three"', '"four"', "replace", "Answer.__init__ changed"),
    ("def __init__(self)", "def __init__(self, n=1)", "replace", "Answer.__init__ changed"),
    ("len(word) > 2", "len(word) > 3", "replace", "Answer._prepare changed, which Answer.__init__ uses"),
    ("return [path, 1]", "return [path, 2]", "replace", "deeper changed, which Answer.__init__ uses"),
    ('PATH = "a model"', 'PATH = "another"', "replace", "PATH changed, which Answer.__init__ uses"),
    ("class Base:\n", "class Base:\n    def __init__(self):\n        self.y = 1\n", "replace", "Base.__init__ is new"),
    (
        "    def unused(",
        "    def __new__(cls):\n        return object.__new__(cls)\n\n    def unused(",
        "replace",
        "__new__",
    ),
    (
        "    def unused(",
        "    def __getattr__(self, name):\n        return name\n\n    def unused(",
        "replace",
        "__getattr__",
    ),
    ("    def unused(", "    @on_startup\n    def unused(", "replace", "Answer.unused changed"),
    # the class itself
    ("size = 3", "size = 4", "replace", "class attribute Answer.size changed"),
    ("size = 3", "size = 3; weight = 2", "replace", "class attribute Answer.weight is new"),
    ("    size = 3\n", "", "replace", "class attribute Answer.size is gone"),
    ("size = 3", "size: int = 3", "swap", "Answer.__annotations__ is new"),
    ('"de": "hallo"', '"de": "moin"', "replace", "class attribute Answer.greeting changed"),
    ('revision="main"', 'revision="v2"', "replace", "class attribute Answer.model changed"),
    ('depends("Other")', 'depends("Another")', "replace", "class attribute Answer.other changed"),
    ('    other = depends("Other")\n', "", "replace", "class attribute Answer.other is gone"),
    ('depends("Other")', 'depends("Other"); more = depends("More")', "replace", "class attribute Answer.more is new"),
    ("class Answer(Base):", "class Answer:", "replace", "the bases of Answer changed"),
    ("class Answer(Base):", "class Answer(Base, abc.ABC):", "replace", "the bases of Answer changed"),
]


@pytest.mark.parametrize(("old", "new", "action", "word"), EDITS, ids=lambda v: textwrap.shorten(str(v), 30))
def test_an_edit(notebook: Notebook, old: str, new: str, action: str, word: str) -> None:
    before = notebook.serve(CELL)
    assert old in CELL
    check(compare(before, notebook.serve(CELL.replace(old, new, 1))), action, word)


def test_the_same_again_means_the_same(notebook: Notebook) -> None:
    versions = [notebook.serve(CELL) for _ in range(4)]
    versions.append(notebook.version())  # now its name is a service
    for other in versions[1:]:
        check(compare(versions[0], other), "nothing", "")


def test_the_order_of_methods_does_not_count(notebook: Notebook) -> None:
    before = notebook.serve(CELL)
    start = CELL.index('    @api(name="count"')
    moved = CELL[:start].replace("    def unused(", CELL[start:] + "\n    def unused(", 1)
    check(compare(before, notebook.serve(moved)), "nothing", "")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "cpu"),
        ("replicas", 2),
        ("threads", 2),
        ("resources", {"cpu": 2}),
        ("traffic", {"timeout": 3}),
        ("envs", [{"name": "A", "value": "1"}]),
        ("http", {"port": 4321}),
        ("strict", True),
        ("name", "Reply"),
    ],
)
def test_options(notebook: Notebook, option: str, value: Any) -> None:
    check(compare(notebook.serve(CELL), notebook.serve(CELL, **{option: value})), "replace", f"{option} changed")


def test_what_was_made_by_a_swap_is_compared_with_what_came_after(notebook: Notebook) -> None:
    """Content is compared, not order or history: back to the first version is nothing."""
    first = notebook.serve(CELL)
    second = notebook.serve(CELL.replace("return 1\n", "return 2\n"))
    check(compare(second, notebook.serve(CELL)), "swap", "Answer.unused changed")
    check(compare(first, notebook.serve(CELL)), "nothing", "")
