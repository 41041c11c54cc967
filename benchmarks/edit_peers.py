"""The same edits, where BentoML serves the graph: from saving the edited file to a new answer over HTTP.

Once with `--reload`, and once by hand: stop it, save, start it again. It serves copies in a folder of their own.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import edit_graph
from benchmarks.edit_calls import ASK, answer_of, module_of
from benchmarks.edit_graph import Version
from benchmarks.edit_load import Load, load_elsewhere
from benchmarks.graph import QUESTION
from benchmarks.servers import BENTOML, Framework, Server, StartError, serving

RELOADED = "BentoML --reload"
RESTARTED = "BentoML restarted"
GRAPH = f"/{edit_graph.API}"
LIMIT = 300.0
IMPORTED = "imported: "  # what an edited module prints
PATIENCE = 30.0  # seconds for one call


@dataclass(slots=True)
class Times:
    """Seconds of each edit: of a method, and of `__init__`."""

    methods: list[float] = field(default_factory=list)
    inits: list[float] = field(default_factory=list)


class Edited(ABC):
    """The graph as BentoML serves it from a file, and its edits; the seconds of each go to `times`."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._version = Version()

    def edit_method(self) -> None:
        self._times.methods.append(self._timed(self._version.next_method))

    def edit_init(self) -> None:
        self._times.inits.append(self._timed(self._version.next_init))

    def _timed(self, version: Version) -> float:
        begin = time.perf_counter()
        self._edit(version)
        self._version = version
        return time.perf_counter() - begin

    @abstractmethod
    def _edit(self, version: Version) -> None:
        """Save the file, and wait for the new answer."""


class Reloaded(Edited):
    """BentoML watches the file. Nobody calls while it reloads."""

    def __init__(self, times: Times, module: Path, server: Server) -> None:
        super().__init__(times)
        self._module = module
        self._server = server
        server.first_answer(GRAPH, QUESTION)

    def _edit(self, version: Version) -> None:
        self._module.write_text(_saying(version))
        # Asked only then: it would wait for a call in flight, whose dependencies have gone, until that times out.
        self._server.printed(f"{IMPORTED}{version}")
        _wait(self._server, _graph_gives(version))


class Restarted(Edited):
    """Somebody stops it, saves the file, and starts it again. `stack` holds what is to be stopped."""

    def __init__(self, times: Times, module: Path, stack: ExitStack) -> None:
        super().__init__(times)
        self._module = module
        self._stack = stack
        self._start().first_answer(GRAPH, QUESTION)

    def _edit(self, version: Version) -> None:
        self._stack.close()
        self._module.write_text(edit_graph.source(version))
        _wait(self._start(), _graph_gives(version))

    def _start(self) -> Server:
        return self._stack.enter_context(serving(_bentoml(self._module, "InferenceGraph")))


@contextmanager
def reloaded(times: Times) -> Iterator[Edited]:
    with (
        _module(edit_graph.source(Version())) as module,
        serving(_bentoml(module, "InferenceGraph", "--reload")) as server,
    ):
        yield Reloaded(times, module, server)


@contextmanager
def restarted(times: Times) -> Iterator[Edited]:
    with _module(edit_graph.source(Version())) as module, ExitStack() as stack:
        yield Restarted(times, module, stack)


def load_during_reload(notes: list[str]) -> Load | None:
    """What came of calls to Front and Leaf while a method of Front was edited, and BentoML watched the file."""
    old, new = Version(), Version(0, 1)
    with noting(notes, RELOADED), ExitStack() as stack:
        module = stack.enter_context(_module(module_of(old, old)))
        server = stack.enter_context(serving(_bentoml(module, "Front", "--reload")))
        server.first_answer(ASK, {})
        load = stack.enter_context(load_elsewhere(server.url + ASK, token=""))
        module.write_text(module_of(new, old))
        _wait(server, lambda s: bool(s.post(ASK, {}, PATIENCE) == answer_of(new, old)))
        return load.stop()
    return None


def _saying(version: Version) -> str:
    return f'{edit_graph.source(version)}\n\nprint("{IMPORTED}{version}", flush=True)\n'


@contextmanager
def _module(text: str) -> Iterator[Path]:
    """A file to serve and to edit, alone in its folder: BentoML watches all of that."""
    with tempfile.TemporaryDirectory(prefix="edited-") as folder:
        module = Path(folder) / "edited_services.py"
        module.write_text(text)
        yield module


def _bentoml(module: Path, entry: str, *options: str) -> Framework:
    def command(python: Path, _: object, port: int) -> list[str]:
        served = [f"{module.stem}:{entry}", "--working-dir", str(module.parent)]
        return [str(python), "-m", "bentoml", "serve", *served, "--host", "127.0.0.1", "--port", str(port), *options]

    return replace(BENTOML, command=command)


def _graph_gives(version: Version) -> Callable[[Server], bool]:
    def gives(server: Server) -> bool:
        return edit_graph.read(server.post(GRAPH, QUESTION, PATIENCE)).version == version

    return gives


def _wait(server: Server, new: Callable[[Server], bool]) -> None:
    """Ask until the answer is the new one; there may be old ones, and none, before. Raises `StartError`."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            if new(server):
                return
        time.sleep(0.02)
    raise StartError(f"no new answer within {LIMIT:.0f} s of an edit")


@contextmanager
def noting(notes: list[str], label: str) -> Iterator[None]:
    """What was measured before something went wrong is kept."""
    try:
        yield
    except (StartError, RuntimeError, TimeoutError) as error:
        notes.append(f"{label}: {error}")
