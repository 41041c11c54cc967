"""scripts/install_torch.py: which build of torch it takes, with a real pip and wheels that are named torch."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install_torch.py"
[PIN] = re.findall(r"^torch==(\S+)", (SCRIPT.parents[1] / "locks" / "torch.txt").read_text(encoding="utf-8"), re.M)


def wheel(folder: Path, name: str, version: str, needs: Sequence[str] = ()) -> None:
    """A wheel that pip installs and that has nothing in it."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    files = {
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has what this one has, apart from torch."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    import packaging

    [site] = venv.glob("lib/python3*/site-packages")
    (site / "packaging").symlink_to(Path(packaging.__file__).parent)
    return venv / "bin" / "python"


def install(python: Path, index: Path, choice: str = "auto") -> tuple[int, str, str]:
    """The exit status, what was said, and the version that is installed afterwards (which is removed again)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "TORCH"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull, "TORCH": choice}
    done = subprocess.run([python, SCRIPT], env=environment, capture_output=True, text=True, check=False)
    ask = "import importlib.metadata as m; print([d.version for d in m.distributions() if d.name == 'torch'])"
    installed = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "torch"], env=environment, check=True)
    return done.returncode, done.stdout + done.stderr, installed


@pytest.mark.slow
def test_a_build_for_the_cpu_is_taken(python: Path, tmp_path: Path) -> None:
    wheel(tmp_path, "torch", f"{PIN}+cpu", ["sympy", 'nvidia-nothing; sys_platform == "none"', 'triton; extra == "x"'])
    assert install(python, tmp_path) == (0, f"==> torch=={PIN}, built for the CPU\n", f"['{PIN}+cpu']")


@pytest.mark.slow
@pytest.mark.parametrize("need", ["nvidia-cublas==13", "cuda-toolkit[cublas]==13.0", "triton==3.7"])
def test_a_build_for_cuda_is_not_taken_unasked(python: Path, tmp_path: Path, need: str) -> None:
    wheel(tmp_path, "torch", PIN, [need])
    status, said, installed = install(python, tmp_path)
    assert (status, installed) == (0, "[]")
    assert "no torch: no CPU build of it could be found" in said
    assert "make TORCH=index" in said


@pytest.mark.slow
def test_a_build_for_cuda_is_taken_when_asked_for(python: Path, tmp_path: Path) -> None:
    wheel(tmp_path, "torch", PIN, ["nvidia-nothing==1"])
    wheel(tmp_path, "nvidia_nothing", "1")
    status, said, installed = install(python, tmp_path, "index")
    assert (status, installed) == (0, f"['{PIN}']")
    assert "as the package index has it" in said


def test_none_where_none_is_wanted_and_none_where_there_is_none(python: Path, tmp_path: Path) -> None:
    assert install(python, tmp_path)[::2] == (0, "[]")
    wheel(tmp_path, "torch", PIN)
    assert install(python, tmp_path, "none")[::2] == (0, "[]")


def test_an_unknown_choice_is_an_error_that_lists_the_known_ones(python: Path, tmp_path: Path) -> None:
    assert install(python, tmp_path, "gpu")[:2] == (2, "TORCH=gpu is unknown; known are: auto, index, none\n")
