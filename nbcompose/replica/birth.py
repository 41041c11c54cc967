"""What a replica is born with, and how the zygote is asked for one. Shared by both ends; imports nothing heavy."""

from __future__ import annotations

from typing import NamedTuple

# What replicas of transformers services import; whatever is not installed is left out.
PRELOAD = (
    "torch",
    "transformers",
    "transformers.pipelines",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.roberta.modeling_roberta",
    "transformers.generation",
)
REQUEST = b"F"  # to the zygote, with the files


class Files(NamedTuple):
    """Open file descriptors that a replica is born with.

    `control`: a socket to the supervisor. `output`: where stdout and stderr go. `owner`: tells when the kernel has
    ended (see owner.py). `board`: the load board. `http`: the listening socket of the service, or /dev/null.
    """

    control: int
    output: int
    owner: int
    board: int
    http: int
