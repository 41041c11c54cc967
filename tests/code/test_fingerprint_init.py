"""What the making of an instance reaches: where that changes, new code is not enough."""

from __future__ import annotations

import pytest

from nbcompose._code.diff import compare
from tests.code.conftest import F, G, Notebook, answer, check

REACHED = {
    "a method": ("self.f()", "self.f is 1"),
    "a bound method": ("self.call = self.f", ""),
    "a method in a list": ("self.calls = [self.f, 1]", ""),
    "by way of another": ("self.h()", "def h(self):\n    return self.f()"),
    "in a loop": ("for call in (self.f, self.f):\n    call()", ""),
    "in a lambda": ("self.call = lambda: self.f()", ""),
    "in a nested function": ("def inner():\n    return self.f()\nself.call = inner", ""),
    "in a comprehension": ("self.x = [self.f() for _ in range(2)]", ""),
    "in a generator": ("self.x = list(self.f() for _ in range(2))", ""),
    "self handed on": ("print(self)", ""),
    "self under another name": ("me = self\nme.f()", ""),
    "self in a list": ("self.me = [self]", ""),
    "getattr": ("getattr(self, 'f')()", ""),
    "in text": ("self.x = f'{self}'", ""),
    "eval": ("eval('self.f()')", ""),
    "the class by name": ("Answer.f(self)", ""),
    "the class by name, alone": ("Answer.f(None)", ""),
    "the class of self": ("self.__class__.f(None)", ""),
    "type(self)": ("type(self).f(self)", ""),
    "the class cell": ("__class__.f(None)", ""),
    "by a name of it": ("self.__getattribute__('f')()", ""),
    "a helper with the class": ("make()", "", "def make():\n    return Answer.f(None)\n"),
    "two helpers deep": ("make()", "", "def make():\n    return more()\ndef more():\n    return Answer.f(None)\n"),
    "a class method": ("self.make()", "@classmethod\ndef make(cls):\n    return cls.f(None)"),
    "a static method": ("self.make()", "@staticmethod\ndef make():\n    return Answer.f(None)"),
    "a property": ("self.made", "@property\ndef made(self):\n    return self.f()"),
    "a cached property": ("self.made", "@cached_property\ndef made(self):\n    return self.f()"),
    "a partial method": ("self.made()", "def _made(self, x):\n    return self.f()\nmade = partialmethod(_made, 1)"),
    "a decorated method": ("self.h()", "@keep\ndef h(self):\n    return self.f()", "def keep(f):\n    return f\n"),
    "any arguments": ("self.h()", "def h(*args):\n    return args[0].f()"),
    "__setattr__": ("self.x = 1", "def __setattr__(self, k, v):\n    self.f()\n    object.__setattr__(self, k, v)"),
    "__getattr__": ("self.x", "def __getattr__(self, k):\n    return self.f()"),
    "a hook": ("pass", "@on_startup\ndef h(self):\n    self.f()"),
    "an async hook": ("pass", "@on_startup\nasync def h(self):\n    self.task = asyncio.create_task(self.f())"),
}


@pytest.mark.parametrize("case", REACHED.values(), ids=REACHED.keys())
def test_what_the_making_of_an_instance_reaches(notebook: Notebook, case: tuple[str, ...]) -> None:
    init, more, helpers = (*case, "", "")[:3]
    text = helpers + answer(init, F, G, more if "def" in more else "")
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), "replace", "Answer.f changed, which")


NOT_REACHED = {
    "nothing of it": ("self.x = 1",),
    "another method": ("self.g()",),
    "an attribute of that name elsewhere": ("math.f = None",),
    "a helper with an argument": ("self.x = load('f')", "def load(name):\n    return str(name)\n"),
    "a static method with an argument": (
        "self.x = self.load('f')",
        "",
        "@staticmethod\ndef load(n):\n    return str(n)",
    ),
    "super": ("super().__init__()",),
    "attributes that are set": ("self.x = self.y = 1\nself.x += 1\ndel self.y\nself.__dict__['z'] = 1",),
    "an attribute of the class": ("self.x = Answer.size", "", "size = 3"),
    "a comprehension over an attribute": ("self.x = [1]\nself.y = {k: self.x for k in self.x if self.x}",),
    "with": ("with self.g():\n    pass",),
}


@pytest.mark.parametrize("case", NOT_REACHED.values(), ids=NOT_REACHED.keys())
def test_what_it_does_not_reach(notebook: Notebook, case: tuple[str, ...]) -> None:
    init, helpers, more = (*case, "", "")[:3]
    text = helpers + answer(init, F, G, more)
    before = notebook.serve(text)
    check(compare(before, notebook.serve(text.replace("'old'", "'new'"))), "swap", "Answer.f changed")
