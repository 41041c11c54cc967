"""The same edits, where BentoML serves the graph: from saving the edited file to a new answer over HTTP.

Once with `--reload`, and once by hand: stop it, save, start it again. It serves copies in a folder of their own.
"""

from __future__ import annotations

import tempfile
import time
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
    """Seconds of each edit: of a method, and of `__init__`. `notes`: what went wrong."""

    methods: list[float] = field(default_factory=list)
    inits: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def reloads(rounds: int) -> Times:
    """BentoML watches the file. Nobody calls while it reloads."""
    times = Times()
    with noting(times.notes, RELOADED), ExitStack() as stack:
        module = stack.enter_context(_module(edit_graph.source(Version())))
        server = stack.enter_context(serving(_bentoml(module, "InferenceGraph", "--reload")))
        server.first_answer(GRAPH, QUESTION)
        for version, seconds in _edits(times, rounds):
            begin = time.perf_counter()
            module.write_text(_saying(version))
            # Asked only then: it would wait for a call in flight, whose dependencies have gone, until that times out.
            server.printed(f"{IMPORTED}{version}")
            _wait(server, _graph_gives(version))
            seconds.append(time.perf_counter() - begin)
    return times


def restarts(rounds: int) -> Times:
    """Somebody stops it, saves the file, and starts it again."""
    times = Times()
    with noting(times.notes, RESTARTED), _module(edit_graph.source(Version())) as module, ExitStack() as stack:
        framework = _bentoml(module, "InferenceGraph")
        stack.enter_context(serving(framework)).first_answer(GRAPH, QUESTION)
        for version, seconds in _edits(times, rounds):
            begin = time.perf_counter()
            stack.close()
            module.write_text(edit_graph.source(version))
            _wait(stack.enter_context(serving(framework)), _graph_gives(version))
            seconds.append(time.perf_counter() - begin)
    return times


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


def _edits(times: Times, rounds: int) -> Iterator[tuple[Version, list[float]]]:
    """A method and `__init__` in turn, and where the seconds of each go."""
    for n in range(1, rounds + 1):
        yield Version(n - 1, n), times.methods
        yield Version(n, n), times.inits


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
