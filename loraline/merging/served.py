"""The merged model as a server sees it: its chat template, and the prompts that come of it."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from loraline.data.chat import prompt_digest, served_template, split_last_turn
from loraline.data.rows import Row
from loraline.models.folder import load_tokenizer, read_manifest

_PROMPTS = 64
_TEMPLATE = "chat_template.jinja"


def write_template(folder: Path) -> None:
    """Put the template that training rendered with beside a model that has none, or another one.

    The Alpaca template stands in where a tokenizer has none, and a date that changes daily was fixed. A server
    knows nothing of either: it reads the model's folder.
    """
    tokenizer = load_tokenizer(folder)
    trained_with = served_template(tokenizer)
    if not tokenizer.chat_template or tokenizer.get_chat_template() != trained_with:
        (folder / _TEMPLATE).write_text(trained_with, encoding="utf-8")


def served_prompts(folder: Path, rows: list[Row]) -> dict[str, str]:
    """For the conversations among the first rows, by id, the digest of the prompt that a server makes of them.

    It is made as servers make it: by the tokenizer of the folder with its own template, in one piece.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    prompts = {row.id: split_last_turn(row)[0] for row in rows[:_PROMPTS]}
    found = {}
    for row, messages in prompts.items():
        if messages:
            token_ids: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            found[row] = prompt_digest(token_ids)
    return found
