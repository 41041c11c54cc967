"""The row about a `%%service` cell: from running it in a real kernel to the instance being there, zygote warm.

Timed inside the kernel, around the whole magic: parsing, capture, fork, `__init__`, ready, card.
"""

from __future__ import annotations

from benchmarks.kernel import loaded_kernel
from benchmarks.row import Aim, Figure, Row
from benchmarks.servers import OURS

WHAT = "%%service cell → instance running, zygote warm"
AIM = Aim(0.3, of="value")
CELLS = 15

SOURCE = """
class Bench{number}:
    def __init__(self):
        self.ready = True

    @api
    def echo(self, text: str) -> str:
        return text
"""


def run() -> Row:
    try:
        with loaded_kernel() as running:
            running.run("from nbcompose import api")
            first = running.time_service(SOURCE.format(number=0))  # cold, beside the zygote: the row is not about it
            running.warm_up()
            seconds = [running.time_service(SOURCE.format(number=number)) for number in range(1, CELLS + 1)]
    except (RuntimeError, TimeoutError) as error:
        return Row(WHAT, AIM, "–", notes=[f"{OURS.label}: {error}"])
    return Row(
        WHAT,
        AIM,
        "–",
        ours=Figure.of(seconds, "s"),
        notes=[f"cell: the first one, right after %load_ext, took {first:.2f} s"],
        samples={OURS.label: seconds},
    )
