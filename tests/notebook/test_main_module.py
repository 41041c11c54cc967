"""`__main__` of a replica: what the service took along is found where pickle looks for it, also by its children."""

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


CELL = """
import multiprocessing, pickle
from concurrent.futures import ProcessPoolExecutor

class Net:
    def __init__(self, size):
        self.size = size

class Outer:
    class Inner:
        pass

OFFSET = 1
def square(x):
    return x * x + OFFSET

def other(x):
    return x
"""

SERVICE = """
%%service {options}
class Uses:
    @api
    def load(self, data: bytes) -> str:
        Net, Outer
        return repr(vars(pickle.loads(data)))

    @api
    def dump(self) -> bool:
        things = [Net, square, Uses, Outer.Inner]
        return pickle.loads(pickle.dumps(things)) == things

    @api
    def pool(self, how: str) -> list[int]:
        with multiprocessing.get_context(how).Pool(2) as pool:
            return pool.map(square, [1, 2, 3])

    @api
    def executor(self, how: str) -> list[int]:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(how)) as pool:
            return [n.size for n in pool.map(Net, [1, 2, 3])]
"""


@pytest.fixture
def uses(clean: Notebook) -> Notebook:
    clean.ok(CELL)
    clean.ok(SERVICE.format(options=""))
    return clean


def test_what_the_notebook_pickled_is_found(uses: Notebook) -> None:
    uses.ok("data = [pickle.dumps(Net(4)), pickle.dumps(Outer.Inner())]")
    assert uses.ok("[Uses.load(d) for d in data]").result == ["{'size': 4}", "{}"]
    assert uses.ok("Uses.dump()").result is True


def test_what_the_service_does_not_name_is_not_there_and_the_error_says_so(uses: Notebook) -> None:
    ran = uses.run("Uses.load(pickle.dumps(other))")
    assert (
        "Can't get attribute 'other' on <module '__main__' of a replica, which has only what the service's code "
        "names: name it there>" in ran.error
    )


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_processes_that_a_service_starts_find_it_too(uses: Notebook, how: str) -> None:
    assert uses.ok(f"Uses.pool({how!r})").result == [2, 5, 10]
    assert uses.ok(f"Uses.executor({how!r})").result == [1, 2, 3]


def test_three_replicas_and_new_code(clean: Notebook) -> None:
    clean.ok(CELL)
    clean.ok(SERVICE.format(options="--replicas 3"))
    clean.ok("OFFSET = 2")
    assert "code swapped" in clean.ok("%services refresh").plain
    answers = clean.ok("[Uses.pool(how) for how in ['fork', 'spawn'] for _ in range(3)]").result
    assert answers == [[3, 6, 11]] * 6
    assert clean.ok("[Uses.dump() for _ in range(6)]").result == [True] * 6


def test_workers_that_load_data(clean: Notebook) -> None:
    pytest.importorskip("torch")
    clean.ok(CELL)
    clean.ok("class Data:\n    def __len__(self): return 4\n    def __getitem__(self, i): return square(i)")
    clean.ok("""
        %%service
        class Loads:
            @api
            def all(self, how: str) -> list[int]:
                from torch.utils.data import DataLoader
                loader = DataLoader(Data(), batch_size=2, num_workers=1, multiprocessing_context=how)
                return [int(x) for batch in loader for x in batch]
    """)
    assert [clean.ok(f"Loads.all({how!r})").result for how in ("fork", "spawn")] == [[1, 2, 5, 10]] * 2


def test_a_saved_model_is_loaded_in_init(clean: Notebook, tmp_path: Any) -> None:
    pytest.importorskip("torch")
    clean.ok("import torch\nclass Small(torch.nn.Module):\n    def forward(self, x): return x + 1")
    clean.ok(f"torch.save(Small(), {str(tmp_path / 'net.pt')!r})")
    cell = f"""
        %%service
        class Saved:
            def __init__(self):
                USES
                self.net = torch.load({str(tmp_path / "net.pt")!r}, weights_only=False)
            @api
            def add(self, x: float) -> float:
                return float(self.net(torch.tensor(x)))
    """
    ran = clean.run(cell.replace("USES", ""))
    assert "Can't get attribute 'Small' on <module '__main__' of a replica" in ran.error
    clean.ok(cell.replace("USES", "Small  # is in the file"))
    assert clean.ok("Saved.add(1.5)").result == 2.5
