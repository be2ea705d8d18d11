"""The chat template of a merged model, and the prompts that an inference server renders with it."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from loraline.data.chat import prompt_digest, prompt_messages
from loraline.data.chat_format import chat_format
from loraline.data.chat_template import served_template
from loraline.data.rows import Row
from loraline.models.folder import load_tokenizer, read_manifest

_PROMPTS = 64
_TEMPLATE = "chat_template.jinja"


def write_chat_template(folder: Path) -> None:
    """Write the chat template that training rendered with, where the folder has none or a different one.

    Training renders with the Alpaca template where a tokenizer has none, and with a fixed date in a template that asks
    for today's. A server does neither: it reads the model's folder.
    """
    tokenizer = load_tokenizer(folder)
    trained_with = served_template(tokenizer)
    if not tokenizer.chat_template or tokenizer.get_chat_template() != trained_with:
        (folder / _TEMPLATE).write_text(trained_with, encoding="utf-8")


def serving_prompt_digests(folder: Path, rows: list[Row]) -> dict[str, str]:
    """Digest, by row id, of the prompt that a server renders for each conversation among the first rows.

    It is rendered as servers do: by the folder's own tokenizer and chat template, in one call.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=read_manifest(folder).trust_remote_code)
    digests = {}
    for row in rows[:_PROMPTS]:
        if messages := prompt_messages(row):
            given: Any = chat_format(tokenizer, row.tools).messages(messages)
            tools: Any = row.tools
            token_ids: Any = tokenizer.apply_chat_template(
                given, tools=tools, add_generation_prompt=True, return_dict=False
            )
            digests[row.id] = prompt_digest(token_ids)
    return digests
