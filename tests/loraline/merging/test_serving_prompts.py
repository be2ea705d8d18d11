"""A server renders the prompts of training from the files of the merged model's folder."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from loraline.artifacts.dataset_files import EVAL_ROWS
from loraline.data.chat import encode_prompt
from loraline.data.rows import Row, read_rows
from loraline.merging.config import MergeConfig
from loraline.merging.merge import merge
from loraline.merging.serving_prompts import serving_prompt_digests
from loraline.models.folder import load_tokenizer
from loraline.training.mask_report import prompt_digests
from tests import tiny

DATED = "{{ strftime_now('%d %b %Y') }}" + tiny.CHAT_TEMPLATE
SYSTEM = {"role": "system", "content": "be kind"}
ROWS = [
    tiny.chat("a question", "an answer"),
    tiny.chat("another question", "its answer", SYSTEM),
    tiny.chat("and then?", "this", *(tiny.chat("first", "answered").messages or [])),
    Row.of(text="plain text has no prompt"),
    Row.of(messages=[{"role": "assistant", "content": "nobody asked"}]),
]


def merged(folder: Path, chat_template: str | None) -> Path:
    base = tiny.save_model(folder / "base", chat_template=chat_template)
    adapter = tiny.save_adapter(folder / "adapter", base, target_modules=["q_proj"])
    merge(
        MergeConfig(parity_examples=1, generated_tokens=1),
        base,
        adapter,
        tiny.save_dataset(folder / "data", ROWS),
        folder / "merged",
    )
    return folder / "merged"


@pytest.mark.parametrize("chat_template", [None, tiny.CHAT_TEMPLATE, DATED], ids=["none", "own", "dated"])
def test_serving_prompts_equal_those_of_training(tmp_path: Path, chat_template: str | None) -> None:
    folder = merged(tmp_path, chat_template)
    rows = read_rows(tmp_path / "data" / EVAL_ROWS)
    served = serving_prompt_digests(folder, rows)
    assert len(set(served.values())) == 3
    assert served == prompt_digests(load_tokenizer(tmp_path / "base"), rows)


def test_a_model_without_a_chat_template_gets_the_one_of_training(tmp_path: Path) -> None:
    folder = merged(tmp_path, None)
    assert not (tmp_path / "base" / "chat_template.jinja").exists()
    messages = [{"role": "user", "content": "hi"}]
    served = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert served.endswith("### Instruction:\nhi\n\n### Response:\n")
    # Inference on the merged model now takes that file's way, and its tokens are the same.
    assert encode_prompt(load_tokenizer(folder), messages) == encode_prompt(load_tokenizer(tmp_path / "base"), messages)


def test_a_chat_template_that_training_used_unchanged_is_kept(tmp_path: Path) -> None:
    folder = merged(tmp_path, tiny.CHAT_TEMPLATE)
    name = "chat_template.jinja"
    assert (folder / name).read_bytes() == (tmp_path / "base" / name).read_bytes()


def test_a_different_template_changes_every_digest(tmp_path: Path) -> None:
    folder = merged(tmp_path, tiny.CHAT_TEMPLATE)
    rows = read_rows(tmp_path / "data" / EVAL_ROWS)
    before = serving_prompt_digests(folder, rows)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|assistant|>", "<|assistant|> "))
    after = serving_prompt_digests(folder, rows)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
