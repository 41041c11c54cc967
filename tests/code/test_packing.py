"""How a class travels to a replica: by import, or by value with the notebook's variables that it uses."""

from __future__ import annotations

import importlib
import linecache
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbcompose import Service, api, service
from nbcompose._code.captured import captured_values
from nbcompose._code.packing import SOURCE_LIMIT, deployment_of
from nbcompose._replica.bootstrap import ByImport, ByValue, class_of, load_module
from nbcompose._service.decorators import as_service
from nbcompose.errors import CaptureError, LargeCaptureWarning
from tests.handles import handle

PREAMBLE = "from nbcompose import api, depends, service\n"
CELL_FILE = "/tmp/ipykernel_7/1234.py"


def run_cell(source: str, file: str = CELL_FILE, **variables: Any) -> dict[str, Any]:
    """As a notebook does: names in `__main__`, no file, the source in linecache."""
    text = textwrap.dedent(source)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace = {"__name__": "__main__", **variables}
    exec(compile(PREAMBLE, "<preamble>", "exec"), namespace)
    exec(compile(text, file, "exec"), namespace)
    return namespace


def answer(source: str, **variables: Any) -> Service:
    made = run_cell(source, **variables)["Answer"]
    return as_service(made)


def by_value(made: Service) -> ByValue:
    origin = deployment_of(made).origin
    assert isinstance(origin, ByValue)
    return origin


def names(made: Service) -> list[str]:
    return [name for name, _ in captured_values(made.inner)]


# -- by import

MODULE = PREAMBLE + textwrap.dedent("""
    class Outer:
        @service
        class Inner:
            @api
            def f(self) -> int:
                return 1

    @service(name="Other")
    class Answer:
        @api
        def f(self) -> int:
            return 2
""")


@pytest.fixture
def module_file(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "answering_module.py"
    file.write_text(MODULE)
    yield file
    sys.modules.pop("answering_module", None)


def test_a_class_of_a_module(module_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(module_file.parent))
    module = importlib.import_module("answering_module")
    assert deployment_of(module.Answer).origin == ByImport("answering_module", "Answer")
    assert deployment_of(module.Outer.Inner).origin == ByImport("answering_module", "Outer.Inner")
    assert class_of(module, "Answer") is module.Answer.inner
    deployment = deployment_of(module.Answer, token="t", allowed_hosts=("a",))
    assert (deployment.spec.name, deployment.token, deployment.allowed_hosts) == ("Other", "t", ("a",))


def test_a_class_of_a_file_that_no_import_would_find(module_file: Path) -> None:
    """As `nbcompose serve app.py` loads one: its name is in sys.modules all the same."""
    module = load_module("answering_module", str(module_file))
    sys.path.remove(str(module_file.parent))
    assert deployment_of(module.Answer).origin == ByImport("answering_module", "Answer", str(module_file))


def test_a_class_of_a_file_whose_name_is_another_module_s(tmp_path: Path) -> None:
    file = tmp_path / "colorsys.py"  # also in the standard library
    file.write_text(MODULE)
    before = sys.modules.pop("colorsys", None)
    try:
        module = load_module("colorsys", str(file))
        sys.path.remove(str(tmp_path))
        assert deployment_of(module.Answer).origin == ByImport("colorsys", "Answer", str(file))
    finally:
        del sys.modules["colorsys"]
        if before is not None:
            sys.modules["colorsys"] = before


def test_a_class_that_its_module_does_not_hold_goes_by_value(module_file: Path) -> None:
    module = load_module("answering_module", str(module_file))
    sys.path.remove(str(module_file.parent))
    made = module.Answer
    module.Answer = None
    assert isinstance(deployment_of(made).origin, ByValue)


@pytest.mark.system
def test_a_class_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        MODULE
        + "\nif __name__ == '__main__':\n"
        + "    from nbcompose._code.packing import deployment_of\n    print(deployment_of(Answer).origin)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(ByImport("app", "Answer", str(script)))


# -- by value: what is captured


def test_what_methods_use_is_captured_however_deep() -> None:
    made = answer(
        """
        import json
        from pathlib import Path

        threshold, table, words, unused, text = 0.5, [1], {"a": 1}, "never", "an attribute's name"
        prefix, suffix, inherited, base_default = "p", "s", 7, 8

        def helper(x):
            return [prefix + str(y) for y in x]

        class Base:
            def below(self, n=base_default):
                return inherited

        class Answer(Base):
            size = 512

            @staticmethod
            def static():
                return words

            @property
            def shown(self):
                return suffix

            @api
            def ask(self, question: str, limit: int = 5) -> str:
                found = [row for row in table if row > threshold]
                later = lambda: helper(question)
                return json.dumps(found) + question.text + str(Path("x"))
        """
    )
    assert sorted(names(made)) == sorted(
        [
            "Answer.size",
            "ask(limit=...)",
            "below(n=...)",
            "inherited",
            "prefix",
            "suffix",
            "table",
            "threshold",
            "words",
        ]
    )


def test_closures_and_decorators_are_followed() -> None:
    made = answer(
        """
        import functools
        registry = {"calls": 0}

        def counted(step):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    registry["calls"] += step
                    return function(*args, **kwargs)
                return wrapper
            return decorate

        inside = "used inside"

        class Answer:
            @api
            @counted(3)
            def ask(self) -> str:
                return inside
        """
    )
    assert sorted(names(made)) == ["inside", "registry", "step"]


def test_a_class_that_refers_to_itself_and_to_cells_not_filled_yet() -> None:
    def make() -> Any:
        class Answer:
            def again(self) -> Any:
                return Answer, later

        if Answer is None:
            later = 1
        return Answer

    assert list(captured_values(make())) == []


# -- what cannot be sent


@pytest.mark.parametrize(
    ("use", "named"),
    [
        ("return lock", "'lock' (lock)"),
        ("return [lock for _ in range(3)]", "'lock' (lock)"),
        ("return helper()", "'lock' (lock)"),
        ("return holder", "'holder' (dict)"),
        ("return self.own", "'Answer.own' (lock)"),
        ("return default", "'ask(default=...)' (lock)"),
    ],
)
def test_a_variable_that_cannot_be_sent_is_named(use: str, named: str) -> None:
    made = answer(
        f"""
        import threading
        fine = 1
        lock = threading.Lock()
        holder = {{"deep": [lock]}}

        def helper():
            return lock

        class Answer:
            {"own = lock" if "own" in use else ""}

            @api
            def ask(self, default={"lock" if "default" in use else "None"}):
                {use}, fine
        """
    )
    with pytest.raises(CaptureError) as caught:
        deployment_of(made)
    assert str(caught.value).startswith(f"Answer uses {named}, which cannot be sent to a replica: ")
    assert str(caught.value).endswith("Make it in __init__ instead")
    assert caught.value.__cause__ is not None


def test_an_attribute_s_name_is_no_variable() -> None:
    made = answer(
        """
        import threading
        lock = threading.Lock()

        class Answer:
            @api
            def ask(self) -> int:
                return self.lock
        """
    )
    by_value(made)


# -- what is large


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbcompose._code.packing.LARGE", 100_000)


LARGE_CELL = """
    import numpy as np
    {variables}

    class Answer:
        @api
        def ask(self):
            return {use}
"""


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize(
    ("variables", "use", "named"),
    [
        ("big = np.zeros(50_000); small = 1", "big, small", "'big' (391 KiB)"),
        ("big = [np.zeros(50_000)]", "[x for x in big]", "'big' (391 KiB)"),
        ("a = np.zeros(8000); b = np.zeros(9000)", "a, b", "'b' (70.4 KiB), 'a' (62.6 KiB)"),
    ],
)
def test_a_large_variable_is_named_at_its_class(variables: str, use: str, named: str) -> None:
    made = answer(LARGE_CELL.format(variables=variables, use=use))
    with pytest.warns(LargeCaptureWarning) as caught:
        deployment_of(made)
    (warning,) = caught
    assert named in str(warning.message)
    assert str(warning.message).startswith("Answer takes ")
    assert str(warning.message).endswith("to each of its replicas: " + named + ". Load it in __init__ instead")
    assert (warning.filename, warning.lineno) == (CELL_FILE, 5)


@pytest.mark.usefixtures("small_limit")
def test_what_is_small_or_not_used_is_not_worth_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deployment_of(answer(LARGE_CELL.format(variables="big = np.zeros(50_000); small = 1", use="small")))
        deployment_of(answer(LARGE_CELL.format(variables="data = np.zeros(50_000)", use="self.data")))


# -- what travels with it


def test_a_service_that_a_method_names_travels_by_its_name() -> None:
    made = answer(
        """
        import threading
        lock = threading.Lock()

        @service
        class Writer:
            lock = lock  # cannot be sent, and need not be

            @api
            def write(self) -> None: ...

        @service
        class Answer:
            writer = depends(Writer)

            @api
            def ask(self) -> str:
                return Writer.name
        """
    )
    cls = pickle.loads(by_value(made).payload)
    assert cls().ask() == "Writer"
    assert names(made) == []


def test_the_source_of_cells_travels_the_class_s_own_first() -> None:
    run_cell("other = 1\n", file="/tmp/ipykernel_7/other.py")
    made = answer(
        """
        class Answer:
            @api
            def ask(self) -> None: ...
        """
    )
    sources = by_value(made).sources
    assert next(iter(sources)) == CELL_FILE
    assert "def ask(self)" in sources[CELL_FILE]
    assert sources["/tmp/ipykernel_7/other.py"] == "other = 1\n"
    assert __file__ not in sources  # a file is read where it is


def test_cells_whose_code_travels_come_before_the_latest() -> None:
    latest = [f"/tmp/ipykernel_7/latest_{i}.py" for i in range(3)]
    space = run_cell("def helper():\n    return 1\n", file="/tmp/ipykernel_7/helper.py")
    space |= run_cell(
        "class Base:\n    def below(self):\n        return helper()\n", "/tmp/ipykernel_7/base.py", **space
    )
    try:
        for file in latest:
            run_cell("x = 1  # " + "long " * (SOURCE_LIMIT // 10), file=file)
        made = answer(
            """
            class Answer(Base):
                @api
                def ask(self) -> None: ...
            """,
            **space,
        )
        sources = by_value(made).sources
        assert {CELL_FILE, "/tmp/ipykernel_7/base.py", "/tmp/ipykernel_7/helper.py"} < sources.keys()
        assert latest[-1] in sources
        assert latest[0] not in sources
    finally:
        for file in latest:
            del linecache.cache[file]


def test_sources_are_bounded() -> None:
    run_cell("x = 1  # " + "long " * (SOURCE_LIMIT // 4), file="/tmp/ipykernel_7/long.py")
    try:
        made = answer(
            """
            class Answer:
                @api
                def ask(self) -> None: ...
            """
        )
        sources = by_value(made).sources
        assert CELL_FILE in sources
        assert "/tmp/ipykernel_7/long.py" not in sources
    finally:
        del linecache.cache["/tmp/ipykernel_7/long.py"]


NOTEBOOK = """
    from __future__ import annotations

    from dataclasses import dataclass, field
    from pydantic import BaseModel

    factor = 3

    @dataclass
    class Passage:
        text: str
        tags: list[str] = field(default_factory=list)

    class Question(BaseModel):
        text: str

    def scaled(n: int) -> int:
        return n * factor

    class Base:
        def __init__(self) -> None:
            self.greeting = "hello"

        @api
        def greet(self) -> str:
            return self.greeting

    @service
    class Answer(Base):
        def __init__(self) -> None:
            super().__init__()

        @api
        def ask(self, question: Question, passages: list[Passage]) -> Passage:
            return Passage(question.text + passages[0].text * scaled(1))

        @api
        def fail(self) -> None:
            raise LookupError("on purpose")
"""

REPLICA = """
import pickle, sys, traceback
from dataclasses import replace
from nbcompose._replica.bootstrap import _load_class
from nbcompose._schema.api import ApiSchema

origin, apis = pickle.load(sys.stdin.buffer)
cls = _load_class(origin)
schemas = {api.name: ApiSchema.of(cls, api) for api in apis}
instance = cls()
print(instance.greet())
schema = schemas["ask"]
arguments = schema.validate({"question": {"text": "q"}, "passages": [{"text": "x"}]})
print(schema.check_result(instance.ask(**arguments)))
try:
    instance.fail()
except LookupError:
    print(traceback.format_exc().splitlines()[-2].strip())
"""


@pytest.mark.system
def test_a_class_of_a_notebook_lives_in_a_process_that_knows_nothing_of_it() -> None:
    made = answer(NOTEBOOK)
    replica = [sys.executable, "-c", REPLICA]
    sent = pickle.dumps((by_value(made), made.spec.apis))
    done = subprocess.run(replica, input=sent, capture_output=True, check=False)
    assert done.stderr.decode() == ""
    assert done.stdout.decode().splitlines() == [
        "hello",
        "Passage(text='qxxx', tags=[])",
        'raise LookupError("on purpose")',
    ]


# -- what a replica had better wait for


def test_a_class_that_uses_heavy_libraries_waits_for_the_zygote_s() -> None:
    @service
    class Light:
        """Mentions torch, and uses none."""

        @api
        def f(self) -> int:
            import json

            return len(json.dumps(1))

    @service
    class Heavy:
        def __init__(self) -> None:
            from transformers import pipeline

            self.pipeline = pipeline

        @api
        def f(self) -> int:
            return 1

    assert not deployment_of(handle(Light)).heavy
    assert deployment_of(handle(Heavy)).heavy


def test_so_does_a_class_whose_module_imports_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    light, heavy = tmp_path / "light_module.py", tmp_path / "heavy_module.py"
    light.write_text(MODULE)
    heavy.write_text(MODULE + "\n\ndef load():\n    import torch\n")
    assert not deployment_of(load_module("light_module", str(light)).Answer).heavy
    loaded = load_module("heavy_module", str(heavy))
    assert deployment_of(loaded.Answer).heavy
    monkeypatch.setitem(sys.modules, "torch", loaded)  # imported in a roundabout way
    assert deployment_of(sys.modules["light_module"].Answer).heavy
    for name in ("light_module", "heavy_module"):
        sys.modules.pop(name)
