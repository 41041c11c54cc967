"""What a profile looks like: a flame graph, as SVG without scripts, and a table of the functions that took most time.

See `_replica/profiling.py` for where it comes from.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path

from nbcompose._replica import CARRIERS, RATE, Frame, Profile
from nbcompose.errors import NbcomposeError

WIDTH, ROW = 1000.0, 18  # of the drawing, and of a row in it
LEAST = 1.0  # width of a box; narrower ones are left out
LETTER = 6.7  # width of a character
TOP = 15  # functions in the table


class Rendered:
    """A profile of a service, for a person; in a notebook it is shown as a flame graph. `text` is applied to places."""

    def __init__(self, service: str, profiles: Iterable[Profile], text: Callable[[str], str] = str) -> None:
        self._service = service
        self._ticks = 0
        self._stacks: Counter[tuple[Frame, ...]] = Counter()
        for profile in profiles:
            self._ticks += profile.ticks
            self._stacks.update(profile.stacks)
        self._text = text

    def __repr__(self) -> str:
        """The table."""
        if not self._stacks:
            return self._nothing()
        own, total = Counter[Frame](), Counter[Frame]()
        for stack, count in self._stacks.items():
            own[stack[-1]] += count
            total.update(dict.fromkeys(stack[1:], count))
        seen = self._stacks.total()
        lines = [f"{self._service}: {seen} samples, of {self._ticks} looks at its replicas", "   own   total  function"]
        for frame, count in sorted(total.items(), key=lambda item: (-own[item[0]], -item[1]))[:TOP]:
            lines.append(f"{own[frame] / seen:6.1%}  {count / seen:6.1%}  {frame.function}{self._place(frame)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self._stacks:
            return f"<div>{escape(self._nothing())}</div>"
        seen = (
            f"{self._stacks.total():,} samples, of {self._ticks:,} looks at its replicas. A box is as wide as its "
            "share of the samples, and stands below what called it; print() of the result shows a table."
        )
        return f'{self.svg()}<div style="color:#808080">{escape(seen)}</div>'

    def svg(self) -> str:
        """Return the flame graph; what is below a function is what it called."""
        depth = max(map(len, self._stacks), default=0) + 1
        boxes = "".join(self._boxes([*self._stacks.items()], self._service, 0.0, WIDTH, 0))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {depth * ROW}" '
            f'style="width:100%;max-width:{WIDTH * 1.2:.0f}px" font-family="monospace" font-size="11">{boxes}</svg>'
        )

    def _boxes(
        self,
        stacks: list[tuple[tuple[Frame, ...], int]],
        name: str,
        left: float,
        width: float,
        depth: int,
        place: str = "",
    ) -> Iterator[str]:
        """Yield the box of what all of the stacks have begun with, and of what they go on with."""
        count = sum(n for _, n in stacks)
        share = count / self._stacks.total() if self._stacks else 0.0
        with_share = f"{name} {share:.0%}"
        label = with_share if len(with_share) * LETTER < width - 6 else name
        if len(label) * LETTER >= width - 6:
            label = name[: max(0, int((width - 6) / LETTER) - 1)] + "…"
        shown = escape(label) if width > 3 * LETTER else ""
        told, y = f"{name}{place}: {share:.1%}, {count} samples", depth * ROW
        hue = 15 + zlib.crc32(name.encode()) % 40
        yield (
            f"<g><title>{escape(told)}</title>"
            f'<rect x="{left:.2f}" y="{y}" width="{max(width - 0.5, 0.5):.2f}" height="{ROW - 1}" rx="2" '
            f'fill="hsl({hue},85%,68%)"/><text x="{left + 3:.2f}" y="{y + 12.5}" fill="#222">{shown}</text></g>'
        )
        below: dict[Frame, list[tuple[tuple[Frame, ...], int]]] = {}
        for stack, n in stacks:
            if stack:
                below.setdefault(stack[0], []).append((stack[1:], n))
        for frame in sorted(below):
            part = width * sum(n for _, n in below[frame]) / count
            if part >= LEAST:
                yield from self._boxes(below[frame], frame.function, left, part, depth + 1, self._place(frame))
            left += part

    def _place(self, frame: Frame) -> str:
        if not frame.file:
            return ""
        place = f'File "{frame.file}", line {frame.line}'
        return f" ({self._text(place)})"

    def _nothing(self) -> str:
        looks = f"{self._ticks} looks at its replicas"
        return f"{self._service} ran nothing in {looks}: it was not called, or its calls only waited"


# -- with native frames: py-spy, a program of its own, looks at the process from outside

NATIVE = Frame("(native and Python frames)")
_PTRACE = Path("/proc/sys/kernel/yama/ptrace_scope")
_PLACE = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\)")


def native_profile(pid: int, seconds: float) -> Profile:
    """Return what a process does in the next `seconds`, frames of C code included. Waits for it.

    Raises `NbcomposeError` where py-spy is not installed, or may not trace the process.
    """
    beside = Path(sys.executable).with_name("py-spy")
    program = shutil.which("py-spy") or (str(beside) if beside.exists() else None)
    if program is None:
        raise NbcomposeError("--native needs py-spy, which is not installed here: pip install py-spy")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        options = ["--native", "--function", "--full-filenames", "--format", "raw", "--rate", f"{RATE:.0f}"]
        took = ["--duration", str(max(1, round(seconds))), "--pid", str(pid), "--output", str(raw)]
        done = subprocess.run(
            [program, "record", *options, *took], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode or not raw.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
            raise NbcomposeError(f"py-spy could not look at process {pid}: {said[-1].strip()}{_ptrace_hint()}")
        return parse_raw(raw.read_text(encoding="utf-8"), round(seconds * RATE))


def _ptrace_hint() -> str:
    try:
        scope = _PTRACE.read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return "" if scope == "0" else f" (kernel.yama.ptrace_scope is {scope}: only 0, or root, lets it trace the replica)"


def parse_raw(text: str, ticks: int) -> Profile:
    """Return the profile in py-spy's raw format: in each line a stack, the outermost frame first, and its count."""
    stacks: Counter[tuple[Frame, ...]] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for part in stack.split(";") if not _carries(frame := _frame(part))]
        if frames:
            stacks[NATIVE, *frames] += int(count)
    return Profile(ticks, stacks)


def _frame(text: str) -> Frame:
    found = _PLACE.fullmatch(text)
    return Frame(text) if found is None else Frame(found["function"], found["file"], int(found["line"] or 0))


def _carries(frame: Frame) -> bool:
    """Whether a frame carries calls: by its module, as far as its file says that."""
    module = ".".join(Path(frame.file).with_suffix("").parts[1:])
    is_program = frame.function == "<module>" and frame.file in ("<string>", "")
    return is_program or any(f".{name.rstrip('.')}" in f".{module}" for name in CARRIERS) or frame.function[:2] == "0x"
