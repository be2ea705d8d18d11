"""The tokenizer of a GGUF file gives the tokens that its model was trained with."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from loraline.errors import ModelLoadingError
from loraline.models.gguf_header import GgufHeader, read_gguf_header
from loraline.models.gguf_tokenizer import check_gguf_tokenizer, make_gguf_tokenizer

VOCABULARIES = [
    file
    for file in sorted((Path(__file__).parents[4] / "shared/data/vocabularies").glob("*.gguf"))
    if file.stat().st_size < 2_000_000  # a larger one takes many seconds
]
NEWLINE, SPACE = "\u010a", "\u0120"
MERGES = [f"{NEWLINE} {NEWLINE}", f"{SPACE} {SPACE}", "1 2", f"{SPACE} 1"]
TEXTS = ("Hello world", "  two  spaces\n\n5 and 1234.5 x", "a\n 5", "It's \u65e5\u672c\u8a9e, na\u00efve\t42\n\n\n  9")


def header(pre: str, **metadata: Any) -> GgufHeader:
    tokens = ["<s>", "</s>", *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    values = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [3, 3, *[1] * (len(tokens) - 2)],
        "merges": MERGES,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **metadata,
    }
    return GgufHeader({"general.architecture": "llama"} | {f"tokenizer.ggml.{k}": v for k, v in values.items()}, {})


@pytest.mark.parametrize(
    ("pre", "tokens"),
    [
        ("gpt-2", [SPACE, SPACE, "12", NEWLINE, NEWLINE, "5"]),
        ("smollm", [SPACE * 2, "1", "2", NEWLINE * 2, "5"]),
        ("deepseek-coder", [SPACE * 2, "1", "2", NEWLINE, NEWLINE, "5"]),
        ("llama-bpe", [SPACE, SPACE, "12", NEWLINE * 2, "5"]),
    ],
)
def test_text_is_split_by_the_files_own_rule(pre: str, tokens: list[str]) -> None:
    check_gguf_tokenizer(header(pre), "the file")
    assert make_gguf_tokenizer(header(pre)).tokenize("  12\n\n5") == tokens


def test_no_token_is_invented_and_special_ones_stay_whole() -> None:
    made = make_gguf_tokenizer(header("llama-bpe"))
    assert len(made) == len(header("").metadata["tokenizer.ggml.tokens"])
    assert made("<s>5</s>")["input_ids"][0] == made.bos_token_id == 0
    assert made("5</s>", add_special_tokens=False)["input_ids"][-1] == made.eos_token_id == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "never-heard-of"}, "rule 'never-heard-of'"),
        ({"model": "rwkv"}, "kind 'rwkv'"),
        ({"merges": None}, "merges are missing"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused(changes: dict[str, Any], message: str) -> None:
    made = header(changes.pop("pre", "gpt-2"), **changes)
    given = GgufHeader({key: value for key, value in made.metadata.items() if value is not None}, {})
    with pytest.raises(ModelLoadingError, match=f"the file .*{message}.*tokenizer.json"):
        check_gguf_tokenizer(given, "the file")


@pytest.mark.skipif(not VOCABULARIES, reason="the real vocabularies are not beside this checkout")
@pytest.mark.parametrize("file", VOCABULARIES, ids=lambda file: file.stem)
def test_real_vocabularies_give_transformers_tokens(file: Path) -> None:
    found = read_gguf_header(file)
    try:
        check_gguf_tokenizer(found, str(file))
    except ModelLoadingError:
        pytest.skip("its rule is refused")
    made = make_gguf_tokenizer(found)
    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        assert made(text)["input_ids"] == theirs(text)["input_ids"]
    assert len(made) == len(found.metadata["tokenizer.ggml.tokens"])
