"""A profile shows the user's functions, by api, and nothing of what carries the calls."""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import debugged_services as services
import pytest

from nbcompose._control.profiling import NATIVE, Rendered, native_profile, parse_raw
from nbcompose._replica.profiling import Frame, Profile, sample
from nbcompose.errors import NbcomposeError
from tests.conftest import Running
from tests.patience import PATIENCE

MODULE = services.__file__


@pytest.mark.system
@pytest.mark.parametrize("api", ["count", "count_later", "parts"])
def test_the_function_that_takes_the_time(running: Running, api: str) -> None:
    counter = running.up(services.Counter, services.Beside)
    done = threading.Event()

    def keep_calling() -> None:
        while not done.is_set():
            if api == "parts":
                next(counter.parts(10_000))
            else:
                getattr(counter, api)(100_000)

    calling = running.in_thread(keep_calling)
    try:
        running.until("Counter", lambda s: s.total.calls > 0)
        profile = running.registry.portal.run(running.registry.profile("Counter", 1.0))
    finally:
        done.set()
        calling.result(PATIENCE)
    first = repr(profile).splitlines()[2]
    assert first.endswith(f'  count_up (File "{MODULE}", line {services.count_up.__code__.co_firstlineno})')
    assert "nbcompose/_" not in profile.svg()
    titles = [str(t.text) for t in ElementTree.fromstring(profile.svg()).iter("{http://www.w3.org/2000/svg}title")]
    names = [title.split(" (")[0].split(":")[0] for title in titles]
    # Where tests are measured, coverage.py may be seen too.
    expected = ["Counter", api, f"Counter.{api}", "count_up"]
    # An api that awaits may be seen in several places: as it begins, and as it goes on.
    assert {name for name in names if name in expected} == set(expected)


@pytest.mark.system
def test_waiting_for_a_service_is_told_and_idle_threads_are_not(running: Running) -> None:
    counter = running.up(services.Counter, services.Beside)
    profile = running.registry.portal.run(running.registry.profile("Counter", 0.1))
    assert repr(profile).startswith("Counter ran nothing in ")
    running.in_thread(counter.wait)
    running.until("Beside", lambda s: any(r.in_flight for r in s.replicas))
    profile = running.registry.portal.run(running.registry.profile("Counter", 0.1))
    assert "(waits for a service)" in repr(profile).splitlines()[2]
    assert "Counter.wait" in profile.svg()
    with pytest.raises(NbcomposeError, match="Counter has no replica 3; those that are up: 0"):
        running.registry.portal.run(running.registry.profile("Counter", 0.1, 3))


def test_threads_without_a_call_are_counted_only_while_they_do_something() -> None:
    over = threading.Event()

    def waits() -> None:
        over.wait()

    def computes() -> None:
        while not over.is_set():
            sum(range(100))

    threads = [threading.Thread(target=work) for work in (waits, computes)]
    for thread in threads:
        thread.start()
    try:
        seen = {frame.function.rpartition(".")[2] for stack in sample(0.2).stacks for frame in stack}
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert "computes" in seen
    assert "waits" not in seen


def test_a_profile_is_drawn_without_scripts_and_with_its_shares() -> None:
    inner, outer = Frame("<b>f</b>", "/a&b.py", 3), Frame("g", "/c.py", 1)
    stacks = Counter({(Frame("ask"), outer): 1, (Frame("ask"), outer, inner): 3})
    rendered = Rendered(
        "Answer", [Profile(4, stacks), Profile()], lambda text: text.replace('File "/c.py"', "Cell In[1]")
    )
    assert repr(rendered).splitlines() == [
        "Answer: 4 samples, of 4 looks at its replicas",
        "   own   total  function",
        ' 75.0%   75.0%  <b>f</b> (File "/a&b.py", line 3)',
        " 25.0%  100.0%  g (Cell In[1], line 1)",
    ]
    titles = [str(t.text) for t in ElementTree.fromstring(rendered.svg()).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "Answer: 100.0%, 4 samples",
        "ask: 100.0%, 4 samples",
        "g (Cell In[1], line 1): 100.0%, 4 samples",
        '<b>f</b> (File "/a&b.py", line 3): 75.0%, 3 samples',
    ]
    assert ">ask 100%</text>" in rendered.svg()
    drawn, _, below = rendered._repr_html_().partition("<div")
    assert drawn == rendered.svg()
    assert "4 samples, of 4 looks at its replicas" in below
    assert "ran nothing" in Rendered("Answer", [])._repr_html_()


RAW = """\
0x7f32 (libc.so.6);<module> (<string>);_do (/x/nbcompose/_replica/workers.py:9);count_up (/y/my.py:3);dgemm (blas.so) 7
run (/usr/lib/python3.11/threading.py:975);_bootstrap (/usr/lib/python3.11/threading.py:990) 3
"""


def test_what_py_spy_says_is_folded_alike() -> None:
    profile = parse_raw(RAW, 100)
    assert profile.stacks == {(NATIVE, Frame("count_up", "/y/my.py", 3), Frame("dgemm", "blas.so", 0)): 7}
    assert profile.ticks == 100


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (None, "--native needs py-spy, which is not installed here: pip install py-spy"),
        (
            "#!/bin/sh\necho Error: Permission Denied >&2\nexit 1\n",
            "py-spy could not look at process 1: Error: Permission D",
        ),
        ("#!/bin/sh\nexit 0\n", "py-spy could not look at process 1: exit status 0"),
    ],
)
def test_where_py_spy_does_not_help_one_line_says_why(
    program: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    if program is not None:
        (tmp_path / "py-spy").write_text(program)
        (tmp_path / "py-spy").chmod(0o700)
    with pytest.raises(NbcomposeError, match=re.escape(said)):
        native_profile(1, 1.0)


@pytest.mark.system
def test_native_frames(running: Running) -> None:
    if shutil.which("py-spy") is None:  # it is no dependency
        pytest.skip("py-spy is not installed")
    counter = running.up(services.Counter, services.Beside)
    running.in_thread(lambda: [counter.count(100_000) for _ in range(10_000)])
    running.until("Counter", lambda s: any(r.in_flight for r in s.replicas))
    profile = running.registry.portal.run(running.registry.profile("Counter", 1.0, native=True))
    running.registry.remove("Counter", grace=0.0)
    assert "count_up" in repr(profile)
