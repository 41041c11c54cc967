"""Classes become specs; every mistake is reported at once, with its file and line."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import inspect
import linecache
import pickle
import sys
import textwrap
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import cloudpickle
import numpy as np
import pytest

import nbcompose as bentoml
from nbcompose import Service, api, depends, on_shutdown, on_startup, service
from nbcompose._service.dependency import Dependency
from nbcompose._service.introspect import declare
from nbcompose._spec import ApiSpec, BatchPolicy, DependencySpec, ParamSpec, Resources, ServiceSpec, Traffic
from nbcompose.errors import DeclarationError, NbcomposeError, UnknownApi
from tests.handles import handle

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def line_of(text: str) -> int:
    """The line of this file that ends with a comment."""
    return next(i for i, line in enumerate(LINES, 1) if line.endswith(f"# {text}"))


def refused(cls: Any, **options: Any) -> list[str]:
    """The mistakes in a declaration, each as `line: message` where it is in this file."""
    with pytest.raises(DeclarationError) as caught:
        declare(cls, options)
    assert str(caught.value).startswith(f"{cls.__name__} cannot be a service:\n")
    assert all(m.file == __file__ for m in caught.value.mistakes)
    return [f"{m.line}: {m.message}" for m in caught.value.mistakes]


def only_api(cls: type) -> ApiSpec:
    (spec,) = declare(cls, {}).apis
    return spec


# -- what is read


class Embedder:  # Embedder
    """Embeds."""

    @api
    def embed(self, texts: list[str], *, normalize: bool = True) -> np.ndarray:
        """One vector for each text."""
        return np.zeros(len(texts))


def test_a_bare_class() -> None:
    spec = declare(Embedder, {})
    assert spec.name == "Embedder"
    assert spec.cls is Embedder
    assert (spec.location.file, spec.location.line) == (__file__, line_of("Embedder"))
    assert spec.apis == (
        ApiSpec(
            name="embed",
            method="embed",
            route="/embed",
            params=(
                ParamSpec("texts", "positional_or_keyword", True, "texts: list[str]"),
                ParamSpec("normalize", "keyword_only", False, "normalize: bool = True"),
            ),
            returns="np.ndarray",
            doc="One vector for each text.",
        ),
    )
    assert spec.apis[0].signature == "embed(texts: list[str], *, normalize: bool = True) -> np.ndarray"


def test_the_decorator_with_and_without_options() -> None:
    assert isinstance(service(Embedder), Service)
    made = handle(service(name="Other", replicas=2)(Embedder))
    assert (made.name, made.spec.replicas, made.inner) == ("Other", 2, Embedder)


def test_bentoml_s_spelling() -> None:
    @bentoml.service(
        workers=2, resources={"gpu": 1, "memory": "4Gi"}, traffic={"timeout": 20}, envs=[{"name": "A", "value": "1"}]
    )
    class Answer:
        embedder = bentoml.depends(Embedder)
        path = bentoml.models.HuggingFaceModel("org/name")

        @bentoml.api(batchable=True, batch_dim=(0, 0), max_batch_size=8, max_latency_ms=5)
        def ask(self, texts: list[str]) -> list[str]:
            return texts

    spec = handle(Answer).spec
    assert (spec.replicas, spec.resources, spec.traffic) == (2, Resources(None, 1, 4 * 2**30), Traffic(20.0))
    assert spec.envs == {"A": "1"}
    assert spec.dependencies == (DependencySpec("embedder", "Embedder"),)
    assert spec.apis[0].batch == BatchPolicy((0, 0), 8, 5)


class Kinds:
    @api
    def plain(self) -> int:
        return 1

    @api
    async def awaited(self) -> int:
        return 1

    @api
    def yields(self) -> Iterator[int]:
        yield 1

    @api
    async def yields_async(self) -> AsyncIterator[int]:
        yield 1

    def _numbers(self) -> Generator[int, None, None]:
        yield 1

    @api
    def hands_out(self) -> Iterator[int]:
        return self._numbers()

    @api
    def hands_out_async(self) -> AsyncIterator[int]:
        return self.yields_async()

    @api
    def returns_a_list(self) -> list[int]:
        return [1]


def test_the_four_kinds_of_methods_and_generators_that_are_handed_out() -> None:
    kinds = {a.name: (a.stream, a.is_async) for a in declare(Kinds, {}).apis}
    assert kinds == {
        "plain": (False, False),
        "awaited": (False, True),
        "yields": (True, False),
        "yields_async": (True, True),
        "hands_out": (True, False),
        "hands_out_async": (True, True),
        "returns_a_list": (False, False),
    }


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def test_decorated_methods() -> None:
    class Decorated:
        @api
        @logged
        def above(self, x: int) -> Iterator[int]:
            yield x

        @logged  # type: ignore[arg-type]
        @api(name="other")
        async def below(self, x: int) -> int:
            return x

    above, below = declare(Decorated, {}).apis
    assert (above.name, above.stream, above.params[0].text) == ("above", True, "x: int")
    assert (below.name, below.method, below.route, below.is_async) == ("other", "below", "/other", True)


def test_names_and_routes() -> None:
    class Named:
        @api(name="ask", route="/v1/ask")
        def answer(self) -> None: ...

        @api(route="/ünï-cödé")
        def other(self) -> None: ...

    assert [(a.name, a.method, a.route) for a in declare(Named, {}).apis] == [
        ("ask", "answer", "/v1/ask"),
        ("other", "other", "/ünï-cödé"),
    ]


class Thing:
    """Its repr has an address."""


def test_signatures_say_what_was_written() -> None:
    class Signatures:
        @api
        def f(
            self,
            a: Any,
            /,
            b: str = "it's",
            *rest: int,
            mode: Literal["fast", "slow"] = "fast",
            plain="x",
            thing: Any = Thing(),  # noqa: B008
            long: Any = "x" * 500,
            **more: float,
        ) -> dict[str, int]:
            return {}

    spec = only_api(Signatures)
    assert spec.signature == (
        "f(a: Any, /, b: str = \"it's\", *rest: int, mode: Literal['fast', 'slow'] = 'fast', plain='x', "
        "thing: Any = ..., long: Any = ..., **more: float) -> dict[str, int]"
    )
    assert only_api(Signatures) == spec  # also when its annotations have been resolved
    assert [p.required for p in spec.params] == [True, False, False, False, False, False, False, False]
    assert [p.kind for p in spec.params][:3] == ["positional_only", "positional_or_keyword", "var_positional"]


def test_dependencies() -> None:
    embedder = service(name="Vectors")(Embedder)

    class Dependent:
        by_service = depends(embedder)
        by_class = depends(Embedder)
        by_name = depends("Writer")
        by_url = depends(url="http://127.0.0.1:3000", token="secret")

        @api
        def f(self) -> None: ...

    assert declare(Dependent, {}).dependencies == (
        DependencySpec("by_service", "Vectors"),
        DependencySpec("by_class", "Embedder"),
        DependencySpec("by_name", "Writer"),
        DependencySpec("by_url", "", "http://127.0.0.1:3000"),
    )


def test_hooks() -> None:
    class Hooked:
        @on_startup
        def warm(self) -> None: ...

        @on_startup
        async def warmer(self) -> None: ...

        @on_shutdown
        def bye(self) -> None: ...

        @api
        def f(self) -> None: ...

    spec = declare(Hooked, {})
    assert (spec.on_startup, spec.on_shutdown) == (("warm", "warmer"), ("bye",))


# -- inheritance


class Base:
    other = depends("Other")

    @on_startup
    def warm(self) -> None: ...

    @api(route="/v1/ask")
    def ask(self, question: str) -> str:
        return question

    @api
    def gone(self) -> None: ...


class Better(Base):
    def warm(self) -> None: ...

    def ask(self, question: str, hurry: bool = False) -> str:  # type: ignore[override]
        return super().ask(question).upper()

    gone = None  # type: ignore[assignment]

    @api
    def more(self) -> None: ...


def test_a_class_inherits_apis_dependencies_and_hooks() -> None:
    class Derived(Base):
        pass

    spec = declare(Derived, {})
    assert [a.name for a in spec.apis] == ["ask", "gone"]
    assert spec.dependencies == (DependencySpec("other", "Other"),)
    assert spec.on_startup == ("warm",)


def test_an_override_is_an_api_as_the_method_that_it_overrides() -> None:
    spec = declare(Better, {})
    assert [(a.name, a.route) for a in spec.apis] == [("ask", "/v1/ask"), ("more", "/more")]
    assert spec.apis[0].signature == "ask(question: str, hurry: bool = False) -> str"
    assert spec.on_startup == ("warm",)


def test_an_override_may_have_options_of_its_own() -> None:
    class Renamed(Base):
        @api(name="question")
        def ask(self, question: str) -> str:
            return question

    assert [a.name for a in declare(Renamed, {}).apis] == ["question", "gone"]


def test_a_service_may_be_extended() -> None:
    answer = service(replicas=3)(Base)

    class Extended(answer):  # type: ignore[valid-type,misc]
        @api
        def more(self) -> str:
            return str(self.ask("x"))

    assert Extended.__mro__[1] is Base
    spec = declare(Extended, {})
    assert [a.name for a in spec.apis] == ["ask", "gone", "more"]
    assert spec.replicas == 1  # options are not inherited: they are the service's, not the class's


# -- mistakes


def test_every_mistake_at_once_with_its_line() -> None:
    class Wrong:  # Wrong
        nothing = depends()
        number = depends(5)
        both = depends("A", url="http://x")
        ftp = depends(url="ftp://x")
        user = depends(url="https://me:s3cret@x")
        query = depends(url="https://x?token=s3cret")
        bare = depends(Thing)
        token = depends("A", token="x")
        empty = depends("")

        def __init__(self, path: str, size: int, optional: int = 1) -> None:  # init
            pass

        @on_startup  # hook
        def warm(self, how: str) -> None: ...

        @api  # type: ignore[arg-type]  # no self
        def lost() -> None: ...

        @api  # type: ignore[arg-type]  # static
        @staticmethod
        def alone() -> None: ...

        @api(nmae="x")  # type: ignore[call-overload]  # option
        def unknown_option(self) -> None: ...

        @api(batchable=True)  # batch yields
        def batch_yields(self, items: list[int]) -> Iterator[int]:
            yield 1

        @api(batchable=True)  # batch of nothing
        def batch_of_nothing(self) -> list[int]:
            return []

        @api  # async iterator
        async def iterates(self) -> AsyncIterator[int]:
            return Kinds().yields_async()

        @api(name="token")  # reserved
        def reserved(self) -> None: ...

        @api  # private
        def _private(self) -> None: ...

        @api(route="no-slash")  # route
        def route(self) -> None: ...

        @api(route="/a b")  # blank
        def blank(self) -> None: ...

        @api(route="/x/{y}")  # braces
        def braces(self) -> None: ...

        @api(route="/metrics")  # taken
        def taken(self) -> None: ...

        @api(name="route")  # twice
        def twice(self) -> None: ...

        @api  # annotation
        def annotation(self, x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    found = refused(Wrong, replicas=0, colour="red")
    here = line_of("Wrong")
    assert sorted(found) == sorted([
        f"{here}: @service has no option 'colour'; it has: name, device, replicas, workers, threads, resources, "
        "traffic, envs, http, strict, openai",
        f"{here}: replicas=0 must be a whole number from 1",
        f"{here}: nothing = depends(...) takes either a service or url=",
        f"{here}: number = depends(5): a service, or the name of one, is wanted",
        f"{here}: both = depends(...) takes either a service or url=",
        f"{here}: ftp = depends(url='ftp://x'): the url begins with http:// or https:// and names a host",
        *(
            f"{here}: {name} = depends(url=...): leave user, password, query and fragment out of the url, "
            "which graphs and errors show; give token= instead"
            for name in ("user", "query")
        ),
        f"{here}: bare = depends(Thing): Thing has no @api method",
        f"{here}: token = depends(..., token=) is for url=: services of one graph need no token",
        f"{here}: empty = depends(''): a service, or the name of one, is wanted",
        f"{line_of('init')}: __init__ takes path, size, but nbcompose calls it without arguments: give them defaults",
        f"{line_of('hook')}: @on_startup warm takes how, but is called without arguments",
        f"{line_of('no self')}: @api lost takes no `self`",
        f"{line_of('static')}: @api alone is a staticmethod; an api is a plain method with `self`",
        f"{line_of('option')}: unknown_option: @api has no option 'nmae'; it has: name, route, batchable, batch_dim, "
        "max_batch_size, max_latency_ms, idempotent, interruptible, record",
        f"{line_of('batch yields')}: batch_yields: a batchable api returns one list of results; it cannot yield",
        f"{line_of('batch of nothing')}: batch_of_nothing: a batchable api takes the list of inputs as its first "
        "parameter",
        f"{line_of('async iterator')}: iterates is async and returns an iterator: let it `yield` the items itself",
        f"{line_of('reserved')}: an api cannot be called 'token': choose another with @api(name=...)",
        f"{line_of('private')}: an api cannot be called '_private': choose another with @api(name=...)",
        f"{line_of('route')}: route: route='no-slash' begins with / and has no blank, ?, #, {{ or }}",
        f"{line_of('blank')}: blank: route='/a b' begins with / and has no blank, ?, #, {{ or }}",
        f"{line_of('braces')}: braces: route='/x/{{y}}' begins with / and has no blank, ?, #, {{ or }}",
        f"{line_of('taken')}: taken: the route /metrics is nbcompose's own",
        f"{line_of('twice')}: route and twice have the same name or route",
        f"{line_of('annotation')}: Wrong.annotation: the annotation of `x` names `Missing`, which does not exist when "
        "the service runs: import or define it at the top level of the module or notebook, not under "
        "`if TYPE_CHECKING:` or in a function, or leave it out",
    ])  # fmt: skip


def test_a_class_without_an_api() -> None:
    class Bare:  # Bare
        def f(self) -> None: ...

    assert refused(Bare) == [f"{line_of('Bare')}: Bare has no api: put @api on at least one method"]
    assert refused(NothingAtAll) == [
        f"{line_of('NothingAtAll')}: NothingAtAll has no api: put @api on at least one method"
    ]


class NothingAtAll:  # NothingAtAll
    pass


def test_a_class_that_cannot_be_made() -> None:
    class Abstract(abc.ABC):  # Abstract
        async def __init__(self) -> None:  # type: ignore[misc]  # async init
            self.ready = True

        @api
        @abc.abstractmethod
        def f(self) -> None: ...

    assert refused(Abstract) == [
        f"{line_of('Abstract')}: Abstract has abstract methods: f",
        f"{line_of('async init')}: __init__ cannot be async: put what it awaits in an async method with @on_startup",
    ]


def test_a_service_that_depends_on_itself() -> None:
    class Circle:  # Circle
        me = depends("Circle")

        @api
        def f(self) -> None: ...

    assert refused(Circle) == [f"{line_of('Circle')}: Circle depends on itself (me)"]


@pytest.mark.parametrize("name", ["to_async", "to_sync", "spec", "name", "inner", "url", "link", "token", "graph"])
def test_names_that_a_service_has_itself(name: str) -> None:
    def method(self: Any) -> None: ...

    cls = type("Taken", (), {"f": api(name=name)(method)})
    with pytest.raises(DeclarationError, match=f"cannot be called '{name}'"):
        declare(cls, {})


def test_decorators_on_what_is_no_method() -> None:
    with pytest.raises(DeclarationError, match=r"@api goes on a method, not on 'ask'; options are given by name"):
        api("ask")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="@api goes on a method, not on a property"):
        api(property(lambda self: 1))  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="@on_startup goes on a method, not on <class"):
        on_startup(Thing)
    with pytest.raises(DeclarationError, match="@service goes on a class, not on <function"):
        service(logged)  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="Embedder is a service already"):
        service(service(Embedder))


class Chameleon:
    """Has an answer to any name."""

    def __getattr__(self, name: str) -> Any:
        return Chameleon()

    def __call__(self) -> None: ...


class Sour:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("not now")


def test_attributes_of_any_kind_do_no_harm() -> None:
    class Odd:
        chameleon = Chameleon()
        sour = Sour()
        array = np.zeros(3)
        nested = service(Embedder)

        @api
        def f(self) -> None: ...

    spec = declare(Odd, {})
    assert [a.name for a in spec.apis] == ["f"]
    assert spec.on_startup == ()


def test_the_place_of_a_class_whose_first_method_is_somebody_else_s() -> None:
    @dataclasses.dataclass
    class Configured:  # Configured
        size: int = 3

        @logged
        def helper(self) -> None: ...

        @api
        def f(self) -> int:
            return self.size

    location = declare(Configured, {}).location
    assert (location.file, location.line) == (__file__, line_of("Configured"))


def test_the_place_of_a_class_with_many_decorators() -> None:
    def plain(*_: Any) -> Any:
        return lambda cls: cls

    @plain(
        "class Decorated",
        3,
    )
    @dataclasses.dataclass(
        frozen=True,
    )
    class Decorated:  # Decorated
        @api
        def f(self) -> int:
            return 1

        class Inner:
            class Decorated:  # Inner.Decorated
                @api
                def g(self) -> int:
                    return 1

    places = [declare(cls, {}).location for cls in (Decorated, Decorated.Inner.Decorated)]
    assert [place.line for place in places] == [line_of("Decorated"), line_of("Inner.Decorated")]


CELL = """\
from __future__ import annotations

from dataclasses import dataclass
from nbcompose import api, service

@dataclass
class Passage:
    text: str

@service
class Answer:
    @api
    def ask(self, passages: list[Passage]) -> Passage:
        return passages[0]

    @api
    def {name}(self, x: {annotation}) -> None: ...
"""


def run_cell(name: str = "other", annotation: str = "int") -> dict[str, Any]:
    """As a notebook runs one: `__main__`, no file, the source in linecache."""
    source = CELL.format(name=name, annotation=annotation)
    file = "/tmp/ipykernel_1/123.py"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = types.ModuleType("nbcompose_cell")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        exec(compile(source, file, "exec"), vars(module))
    return vars(module)


def test_types_that_are_in_the_notebook() -> None:
    namespace = run_cell()
    answer = namespace["Answer"]
    assert (answer.spec.location.file, answer.spec.location.line) == ("/tmp/ipykernel_1/123.py", 11)
    passage = namespace["Passage"]
    assert answer.inner.ask.__annotations__["passages"] == list[passage]  # type: ignore[valid-type]  # resolved, to travel by value


def test_a_mistake_in_a_cell() -> None:
    with pytest.raises(DeclarationError) as caught:
        run_cell(name="ask2", annotation="Unknown")
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line) == ("/tmp/ipykernel_1/123.py", 16)
    assert "`Unknown`" in mistake.message


def test_a_class_of_code_without_a_source_is_declared_too() -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("from nbcompose import api\nclass A:\n    @api\n    def f(self) -> int: return 1", namespace)
    assert declare(namespace["A"], {}).name == "A"


# -- what a user holds


def test_help_without_a_running_service() -> None:
    answer = service(Embedder)
    assert dir(answer) == [
        "asgi",
        "embed",
        "graph",
        "inner",
        "link",
        "name",
        "spec",
        "to_async",
        "to_sync",
        "token",
        "url",
    ]
    assert str(answer.__doc__).startswith("Embeds.\n\nApis:\n  embed(texts: list[str], *, normalize: bool = True)")
    assert answer.__name__ == "Embedder"
    assert repr(answer) == "<service Embedder: embed(texts: list[str], *, normalize: bool = True) -> np.ndarray>"
    assert repr(answer.embed) == ("<api Embedder.embed(texts: list[str], *, normalize: bool = True) -> np.ndarray>")
    assert str(answer.embed.__doc__).startswith("One vector for each text.\n\nCall: ")
    assert str(inspect.signature(answer.embed)) == "(texts: list[str], *, normalize: bool = True) -> np.ndarray"


def test_calls_without_a_running_service_say_what_to_do() -> None:
    answer: Any = service(Embedder)
    with pytest.raises(
        NbcomposeError, match=r"does not run: put %%service above .*`with nbcompose.run\(Embedder\):`.*`Embedder\(\)`"
    ):
        answer.embed(["x"])
    with pytest.raises(NbcomposeError, match="Embedder does not run"):
        answer.to_async.embed(["x"])
    with pytest.raises(UnknownApi, match="Embedder has no api 'embd'; it has: embed"):
        answer.embd(["x"])
    assert not hasattr(answer, "embd")
    assert not hasattr(answer, "_repr_html_")
    assert not hasattr(answer, "__wrapped__")


def test_a_bare_instance_says_how_to_connect_its_dependencies() -> None:
    with pytest.raises(NbcomposeError, match=r"Base.other is not connected.*`Base\(\)`"):
        Base().other.f()
    assert isinstance(Base.other, Dependency)


def test_services_and_dependencies_can_be_copied_and_sent() -> None:
    answer: Any = service(name="Vectors")(Embedder)
    for twin in (pickle.loads(pickle.dumps(answer)), cloudpickle.loads(cloudpickle.dumps(answer)), copy.copy(answer)):
        assert twin.name == "Vectors"
        assert dir(twin) == dir(answer)
        assert repr(twin) == repr(answer)
        assert (twin.__doc__, twin.__module__, twin.__qualname__) == (answer.__doc__, __name__, "Embedder")
        for use in (twin, lambda twin=twin: twin.inner, lambda twin=twin: types.resolve_bases((twin,))):
            with pytest.raises(
                NbcomposeError, match=r"the class of Vectors is not in this process.*depends\(Vectors\)"
            ):
                use()
    for dependency, expected in (
        (depends(answer), DependencySpec("d", "Vectors")),
        (depends(Embedder), DependencySpec("d", "Embedder")),
        (depends("Other"), DependencySpec("d", "Other")),
        (depends(url="http://x", token="t"), DependencySpec("d", "", "http://x")),
    ):
        twin = pickle.loads(pickle.dumps(dependency))
        assert twin.spec("d") == expected
        assert twin.token == dependency.token
        assert repr(twin) == repr(dependency)


def test_a_class_that_has_travelled_can_be_declared_again() -> None:
    class Dependent:
        there = depends(url="http://127.0.0.1:3000")
        here = depends(Embedder)

        @api
        def f(self, x: int) -> int:
            return x

    spec = declare(Dependent, {})
    again = declare(cloudpickle.loads(cloudpickle.dumps(Dependent)), {})
    assert (again.apis, again.dependencies) == (spec.apis, spec.dependencies)


def test_specs_are_data() -> None:
    spec = declare(Embedder, {})
    assert isinstance(spec, ServiceSpec)
    assert spec == declare(Embedder, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.replicas = 2  # type: ignore[misc]
    assert textwrap.dedent(spec.apis[0].doc) == spec.apis[0].doc


T = TypeVar("T")


class Named:
    @api
    def this(this, x: int) -> int: ...  # noqa: N805

    @api
    def typed(me: Self, x: int) -> int: ...  # noqa: N805

    @api
    def quoted(me: "Named", x: int) -> int: ...  # noqa: N805, UP037

    @api
    def variable(me: T, x: int) -> int: ...  # noqa: N805

    @api
    def protocol(self: Any, x: int) -> int: ...


class Lost:
    @api  # with a type
    def typed(x: int) -> int: ...  # noqa: N805

    @api  # with a default
    def default(x=3) -> int: ...  # type: ignore[assignment]  # noqa: N805

    @classmethod  # a class method
    @api
    def of_class(cls) -> int: ...

    @api  # type: ignore[arg-type]  # a static method
    @staticmethod
    def of_nothing() -> int: ...


def test_the_instance_may_have_any_name() -> None:
    assert [[p.name for p in a.params] for a in declare(Named, {}).apis] == [["x"]] * 5


def test_an_api_without_self_is_refused() -> None:
    plain = "an api is a plain method with `self`"
    assert sorted(refused(Lost)) == sorted([
        f"{line_of('with a type')}: @api typed takes no `self`: the instance would be x: int. Put `self` before it",
        f"{line_of('with a default')}: @api default takes no `self`: the instance would be x=3. Put `self` before it",
        f"{line_of('a class method')}: @api of_class is a classmethod; {plain}",
        f"{line_of('a static method')}: @api of_nothing is a staticmethod; {plain}",
    ])  # fmt: skip
