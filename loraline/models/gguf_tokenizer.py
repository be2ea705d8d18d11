"""The tokenizer of a GGUF file: vocabulary, merges, special tokens and chat template, from its metadata.

transformers builds it, but reads the file with torch, which the light image lacks, and splits text as GPT-2 does
wherever it does not know the file's `tokenizer.ggml.pre`. Text split in another way gives other tokens than the model
was trained with, so an unknown one is refused here.
"""

import json

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    GGUF_TOKENIZER_MAPPING,
    GGUF_TOKENIZER_TYPES,
    convert_gguf_tokenizer,
)

from loraline.errors import ModelLoadingError
from loraline.models.gguf_header import GgufHeader

_SPECIAL_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_AS_GPT2 = {"", "default", "gpt-2", "granite-docling", "jais", "mpt", "olmo", "phi-2", "roberta-bpe", "trillion"}
_SINGLE_DIGITS = {"codeshell", "command-r", "exaone", "minerva-7b", "refact", "smollm", "starcoder"}
"""Digits one by one, the rest as GPT-2 does."""
_SPLITS = {
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ),
}
"""Expressions that split the text one after the other."""


def check_gguf_tokenizer(header: GgufHeader, source: str) -> None:
    """Check that the file's tokenizer can be built so that it gives the tokens that the model was trained with.

    Raises:
        ModelLoadingError: it cannot; how to give another one.
    """
    kind, pre = header.metadata.get("tokenizer.ggml.model"), header.metadata.get("tokenizer.ggml.pre", "")
    beside = (
        "put the file alone into a folder, with the tokenizer.json and tokenizer_config.json of the model that it was "
        "made from beside it, and give that folder as model.source"
    )
    needed = ["tokens", *(["merges"] if kind == "gpt2" else [])]
    if missing := [name for name in needed if f"tokenizer.ggml.{name}" not in header.metadata]:
        raise ModelLoadingError(f"{source} has no whole tokenizer, {' and '.join(missing)} are missing: {beside}")
    if kind not in GGUF_TOKENIZER_TYPES:
        known = ", ".join(sorted(GGUF_TOKENIZER_TYPES))
        raise ModelLoadingError(f"{source} has a tokenizer of the kind {kind!r}, and known are {known}: {beside}")
    known_splits = {*_AS_GPT2, *_SINGLE_DIGITS, *_SPLITS, *GGUF_PRE_TOKENIZER_SPLITS}
    if kind == "gpt2" and pre not in known_splits:
        raise ModelLoadingError(
            f"{source} splits text by the rule {pre!r} (tokenizer.ggml.pre) before it looks for tokens, and known are "
            f"{', '.join(sorted(known_splits - {''}))}; with another rule the model would be given other tokens than "
            f"it was trained with: {beside}"
        )


def make_gguf_tokenizer(header: GgufHeader) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a GGUF file that `check_gguf_tokenizer` accepts."""
    fields, settings = (
        {
            name: header.metadata[f"tokenizer.{key}"]
            for key, name in GGUF_TOKENIZER_MAPPING[group].items()
            if f"tokenizer.{key}" in header.metadata
        }
        for group in ("tokenizer", "tokenizer_config")
    )
    if fields["tokenizer_type"] == "llama":
        settings.setdefault("add_bos_token", True)  # as llama.cpp does where a file does not say
    elif fields["tokenizer_type"] == "gemma4":
        settings["add_bos_token"] = False  # its chat template writes it, whatever the file says
    for name, key in _SPECIAL_TOKENS.items():
        token_id = header.metadata.get(f"tokenizer.ggml.{key}")
        if token_id is not None:
            settings[name] = fields["tokens"][token_id]
    backend = _without_invented_tokens(convert_gguf_tokenizer(header.architecture, fields)[0], len(fields["tokens"]))
    if fields["tokenizer_type"] == "gpt2":
        backend.pre_tokenizer = _splits(fields.get("pre_tokenizer_type", "")) or backend.pre_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=context_of(header), clean_up_tokenization_spaces=False, **settings
    )


def _without_invented_tokens(backend: Tokenizer, size: int) -> Tokenizer:
    """Drop the tokens that transformers' class adds of itself: the model has no embedding for them."""
    state = json.loads(backend.to_str())
    kept = [token for token in state["added_tokens"] if token["id"] < size]
    return (
        backend
        if len(kept) == len(state["added_tokens"])
        else Tokenizer.from_str(json.dumps(state | {"added_tokens": kept}))
    )


def context_of(header: GgufHeader) -> int | None:
    """Longest sequence (tokens) that the model supports, where the file says it."""
    length = header.metadata.get(f"{header.architecture}.context_length")
    return int(length) if length else None


def _splits(pre: str) -> pre_tokenizers.PreTokenizer | None:
    """The pre-tokenizer of a rule that transformers does not know; None for those that it does."""
    if pre in _SINGLE_DIGITS:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if pre in _SPLITS:
        parts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in _SPLITS[pre]]
        return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return None
