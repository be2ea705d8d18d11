"""Whether what the rows say reaches the tokens."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from loraline.data.config import DataConfig
from loraline.data.description.content import ContentChecker
from loraline.data.prepare import prepare
from loraline.data.rows import Row
from loraline.errors import DatasetError
from tests import tiny

WITHOUT_TEXT = tiny.CHAT_TEMPLATE.replace("m['content']", "m['text']")
PARTS_ALONE = tiny.CHAT_TEMPLATE.replace(
    "{{ m['content'] }}", "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
)
ROWS = [tiny.chat(f"how are you, {number}", f"quite well, {number} times") for number in range(30)]


def found(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> tuple[int, int, int]:
    checker = ContentChecker(tokenizer)
    for row in rows:
        checker.add(row)
    report = checker.report()
    return report.rows, report.without_prompt, report.without_answer


def test_texts_are_found_in_the_tokens_of_their_rows() -> None:
    texts = [Row.of(text="A plain text, of several words."), tiny.chat("\u00dcber\n\n uns?", "\u4f60\u597d " * 9)]
    assert found(tiny.tokenizer(), [*ROWS, *texts]) == (32, 0, 0)
    assert found(tiny.tokenizer(chat_template=None), ROWS) == (30, 0, 0)


def test_a_template_that_takes_parts_of_content_is_given_them() -> None:
    assert found(tiny.tokenizer(PARTS_ALONE), ROWS) == (30, 0, 0)


def test_a_template_that_loses_the_texts_is_found_out() -> None:
    assert found(tiny.tokenizer(WITHOUT_TEXT), ROWS) == (30, 30, 30)


def test_a_template_that_loses_prompts_alone_is_found_out() -> None:
    lost = tiny.CHAT_TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if m['role'] == 'assistant' }}")
    assert found(tiny.tokenizer(lost), ROWS) == (30, 30, 0)


def test_the_run_ends_before_anything_is_trained(tmp_path: Path) -> None:
    rows = [{"prompt": f"how are you, {n}", "completion": f"quite well, {n} times"} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    knows_no_word = Tokenizer(models.WordLevel({"?": 0, "</s>": 1}, unk_token="?"))
    knows_no_word.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=knows_no_word, eos_token="</s>")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = DataConfig(source=str(tmp_path / "rows.jsonl"), eval_fraction=0.3)
    with pytest.raises(DatasetError, match=r"does not reach the tokens: of 30 rows 30 lost their prompt and 30 their"):
        prepare(config, tmp_path / "tokenizer", tmp_path / "out")
