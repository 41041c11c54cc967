"""Classes of every shape, whose code can be swapped or not."""

from __future__ import annotations

import pytest

from nbcompose._code.diff import compare
from tests.code.conftest import API, Notebook, check

SHAPES: dict[str, tuple[str, str, str, str, str]] = {
    "a dataclass's field": ("@dataclass\nclass Answer:\n    x: int = 1\n", "x: int", "x: float", "replace", "__init__"),
    "its default": ("@dataclass\nclass Answer:\n    x: int = 1\n", "= 1\n", "= 2\n", "replace", "Answer.x changed"),
    "its factory": (
        "@dataclass\nclass Answer:\n    x: list = field(default_factory=lambda: [1])\n",
        "lambda: [1]", "lambda: [2]", "replace", "Answer.__init__ changed",
    ),
    "a new field": ("@dataclass\nclass Answer:\n    x: int = 1\n", "x: int", "y: int = 1\n    x: int", "replace", "y"),
    "its method": ("@dataclass\nclass Answer:\n    x: int = 1\n", "return 1", "return 2", "swap", "Answer.say changed"),
    "after init": (
        "@dataclass\nclass Answer:\n    x: int = 1\n    def __post_init__(self):\n        self.y = 1.5\n",
        "1.5", "1.6", "replace", "Answer.__post_init__ changed",
    ),
    "slots": ("class Answer:\n    __slots__ = ('x',)\n", "return 1", "return 2", "replace", "has __slots__"),
    "more slots": ("class Answer:\n    __slots__ = ('x',)\n", "'x',", "'x', 'y'", "replace", "__slots__"),
    "slots of a base": (
        "class Base:\n    __slots__ = ('x',)\nclass Answer(Base):\n", "return 1", "return 2",
        "replace", "has __slots__",
    ),
    "a dict": ("class Answer(dict):\n", "return 1", "return 2", "replace", "keeps its state outside"),
    "an exception": ("class Answer(Exception):\n", "return 1", "return 2", "replace", "keeps its state outside"),
    "abstract": (
        "class Base(abc.ABC):\n    @abc.abstractmethod\n    def say(self): ...\nclass Answer(Base):\n",
        "return 1", "return 2", "swap", "Answer.say changed",
    ),
    "generic": ("T = TypeVar('T')\nclass Answer(Generic[T]):\n", "return 1", "return 2", "swap", "Answer.say changed"),
    "a metaclass": (
        "class Meta(type):\n    pass\nclass Answer(metaclass=Meta):\n", "return 1", "return 2", "replace", "metaclass",
    ),
    "a metaclass now": (
        "class Meta(type):\n    pass\nclass Answer:\n", "Answer:", "Answer(metaclass=Meta):", "replace", "the bases",
    ),
    "mixins": (
        "class A:\n    def f(self):\n        return 2.5\nclass B:\n    pass\nclass Answer(A, B):\n",
        "2.5", "2.6", "swap", "A.f changed",
    ),
    "the order of mixins": (
        "class A:\n    pass\nclass B:\n    pass\nclass Answer(A, B):\n", "(A, B)", "(B, A)", "replace", "the bases",
    ),
    "an attribute of a base": (
        "class A:\n    x = 2.5\nclass Answer(A):\n", "2.5", "2.6", "replace", "class attribute A.x changed",
    ),
    "an inherited api": (
        "class A:\n    @api\n    def more(self) -> float:\n        return 2.5\nclass Answer(A):\n",
        "2.5", "2.6", "swap", "A.more changed",
    ),
    "an inherited api that is gone": (
        "class A:\n    @api\n    def more(self) -> float:\n        return 2.5\nclass Answer(A):\n",
        "    @api\n    def more", "    def more", "swap", "A.more changed",
    ),
    "a base of the same name": (
        "class Answer:\n    def f(self):\n        return 2.5\nclass Answer(Answer):\n",
        "2.5", "2.6", "swap", "Answer.f changed",
    ),
    "a chain of super()": (
        "class A:\n    def f(self):\n        return 2.5\nclass B(A):\n    def f(self):\n        return super().f()\n"
        "class Answer(B):\n    def __init__(self):\n        self.x = super().f()\n",
        "2.5", "2.6", "replace", "A.f changed, which Answer.__init__ uses",
    ),
    "a base's __init__ that calls what is overridden": (
        "class A:\n    def __init__(self):\n        self.f()\n"
        "class Answer(A):\n    def f(self):\n        return 2.5\n",
        "2.5", "2.6", "replace", "Answer.f changed, which A.__init__ uses",
    ),
    "a library's __init__ that calls what is overridden": (
        "import threading\nclass Answer(threading.Thread):\n    def _set_daemon(self):\n        return 2.5\n",
        "2.5", "2.6", "replace", "",
    ),
    "a class attribute that is a function of the notebook": (
        "def f(self):\n    return 2.5\nclass Answer:\n    g = f\n", "2.5", "2.6", "swap", "Answer.g changed",
    ),
    "a class attribute that is set by __init__": (
        "class Answer:\n    def __init__(self):\n        Answer.late = 2\n",
        "return 1", "return 2", "replace", "sets Answer.late",
    ),
    "one that is declared": (
        "class Answer:\n    late = None\n    def __init__(self):\n        Answer.late = 2\n",
        "return 1", "return 2", "swap", "Answer.say changed",
    ),
    "one that is set by a class method": (
        "class Answer:\n    def __init__(self):\n        self.load()\n"
        "    @classmethod\n    def load(cls):\n        cls.late = 1.5\n",
        "return 1", "return 2", "replace", "sets Answer.late",
    ),
    "an attribute of a helper": (
        "def f():\n    f.late = 2\nclass Answer:\n    def __init__(self):\n        f()\n",
        "return 1", "return 2", "replace", "sets f.late",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES.keys())
def test_shapes(notebook: Notebook, case: tuple[str, str, str, str, str]) -> None:
    text, old, new, action, word = case
    text += API
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    assert old in text
    check(compare(before, notebook.serve(text.replace(old, new))), action, word)


MADE = """
def make(size, model=None):
    count = 0
    cache = {}
    class Answer:
        def __init__(self):
            INIT
        @api
        def say(self) -> int:
            return size + 1
        def f(self):
            return 'old', Answer
        def g(self):
            nonlocal count
            count += 1
    return Answer
Answer = make(4)
"""


@pytest.mark.parametrize(
    ("init", "old", "new", "action", "word"),
    [
        ("pass", "'old'", "'new'", "swap", "f changed"),
        ("pass", "make(4)", "make(5)", "swap", "say changed"),
        ("self.x = size", "'old'", "'new'", "swap", "f changed"),
        ("self.x = size", "make(4)", "make(5)", "replace", "__init__ changed"),
        ("cache['x'] = 1", "'old'", "'new'", "replace", "uses cache, which is outside of the instance"),
        ("nonlocal model; model = 1", "'old'", "'new'", "replace", "keeps model outside of the instance"),
    ],
)
def test_a_class_made_in_a_function(notebook: Notebook, init: str, old: str, new: str, action: str, word: str) -> None:
    text = MADE.replace("INIT", init)
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text)), "nothing", "")
    check(compare(before, notebook.serve(text.replace(old, new))), action, word)
