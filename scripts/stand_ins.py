"""Tiny random models under the ids that the published composition examples name: they test plumbing and nothing else.

Each has the architecture, the tokenizer's kind and the labels of the model that it stands in for, so that
`transformers.pipeline` treats both alike. Weights come from a fixed seed, vocabularies from the LICENSE file.
"""

from __future__ import annotations

import re
import string
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub_cache import revision_of

CORPUS = Path(__file__).resolve().parents[1] / "LICENSE"
VOCABULARY = 1000

_BERT_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    # Wide enough that the scores of two texts differ in their first digits.
    "initializer_range": 0.3,
}
_ROBERTA_SIZES = _BERT_SIZES | {"max_position_embeddings": 514, "type_vocab_size": 1}
_DISTILBERT_SIZES = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.3}
_GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
_MNLI_LABELS = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")


def _byte_level_bpe(special: Mapping[str, str]) -> Any:
    """A tokenizer of RoBERTa's and GPT-2's kind; RoBERTa's also frames texts as `<s> a </s></s> b </s>`."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing

    tokenizer = ByteLevelBPETokenizer()
    tokens = list(dict.fromkeys(special.values()))
    tokenizer.train([str(CORPUS)], vocab_size=VOCABULARY, special_tokens=tokens, show_progress=False)
    if "cls_token" in special:
        sep, cls = special["sep_token"], special["cls_token"]
        tokenizer.post_processor = RobertaProcessing(
            (sep, tokenizer.token_to_id(sep)), (cls, tokenizer.token_to_id(cls))
        )
    return tokenizer


def _word_piece(special: Mapping[str, str]) -> Any:
    """A lower-casing tokenizer of BERT's kind, which frames texts as `[CLS] a [SEP] b [SEP]`.

    Its vocabulary is counted, not trained: the library's training for this kind is not the same twice.
    """
    from tokenizers import BertWordPieceTokenizer

    words = Counter(re.findall(r"[a-z]+", CORPUS.read_text().lower()))
    common = sorted(words, key=lambda word: (-words[word], word))
    characters = [c for c in string.printable.lower() if not c.isspace()]
    pieces = [*special.values(), *characters, *(f"##{c}" for c in characters), *common]
    vocabulary = list(dict.fromkeys(pieces))[:VOCABULARY]
    return BertWordPieceTokenizer(vocab={piece: i for i, piece in enumerate(vocabulary)}, lowercase=True)


@dataclass(frozen=True)
class Family:
    """What models of one architecture share: how their tokenizer is trained, and its special tokens and limits."""

    train: Callable[[Mapping[str, str]], Any]
    special: Mapping[str, str]
    max_length: int
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def tokenizer(self) -> Any:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=self.train(self.special)._tokenizer,
            model_max_length=self.max_length,
            model_input_names=list(self.inputs),
            **self.special,
        )


_BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}
_GPT2_TOKENS = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<|endoftext|>")

BERT = Family(_word_piece, _BERT_TOKENS, 512, ("input_ids", "token_type_ids", "attention_mask"))
DISTILBERT = Family(_word_piece, _BERT_TOKENS, 512)
ROBERTA = Family(_byte_level_bpe, _ROBERTA_TOKENS, 512)
GPT2 = Family(_byte_level_bpe, _GPT2_TOKENS, 1024)


@dataclass(frozen=True)
class StandIn:
    """One random model. `task` is what the published example makes a pipeline for."""

    repo_id: str
    task: str
    family: Family
    model_type: str
    sizes: Mapping[str, Any]
    labels: tuple[str, ...] = field(default=())

    @property
    def revision(self) -> str:
        return revision_of(self.repo_id, Path(__file__).read_bytes(), CORPUS.read_bytes())

    def write(self, snapshot: Path) -> None:
        """Fill `snapshot` with config, weights, tokenizer and a README that says what this is."""
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        tokenizer = self.family.tokenizer()
        torch.manual_seed(zlib.crc32(self.repo_id.encode()))
        causal = self.task == "text-generation"
        factory = AutoModelForCausalLM if causal else AutoModelForSequenceClassification
        model = factory.from_config(self._config(tokenizer))
        if causal:
            # Greedy and short: the same prompt always gets the same text, and soon.
            model.generation_config.update(do_sample=False, max_new_tokens=24, pad_token_id=tokenizer.pad_token_id)
        model.save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
        (snapshot / "README.md").write_text(self._readme())

    def _config(self, tokenizer: Any) -> Any:
        from transformers import AutoConfig

        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
        labels = {"id2label": dict(enumerate(self.labels)), "label2id": {n: i for i, n in enumerate(self.labels)}}
        return AutoConfig.for_model(
            self.model_type, vocab_size=len(tokenizer), **self.sizes, **ids, **(labels if self.labels else {})
        )

    def _readme(self) -> str:
        return (
            f"# A random stand-in for {self.repo_id}\n\n"
            f"This is NOT {self.repo_id}. It has the architecture of that model in a tiny size, with random weights\n"
            f"and the vocabulary of one small file. What it answers to `{self.task}` means nothing: it is here so\n"
            "that examples that name the model can be run, and their plumbing tested, without a model hub.\n"
        )


STAND_INS = (
    StandIn(
        "FacebookAI/roberta-large-mnli", "zero-shot-classification", ROBERTA, "roberta", _ROBERTA_SIZES, _MNLI_LABELS
    ),
    StandIn("distilbert/distilbert-base-uncased", "sentiment-analysis", DISTILBERT, "distilbert", _DISTILBERT_SIZES),
    StandIn("distilbert/distilroberta-base", "text-classification", ROBERTA, "roberta", _ROBERTA_SIZES),
    StandIn("openai-community/gpt2", "text-generation", GPT2, "gpt2", _GPT2_SIZES),
    StandIn("distilbert/distilgpt2", "text-generation", GPT2, "gpt2", _GPT2_SIZES),
    StandIn("google-bert/bert-base-uncased", "text-classification", BERT, "bert", _BERT_SIZES),
)
