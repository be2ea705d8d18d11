"""The chat template of a merged model, and the prompts that an inference server renders with it."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from loraline.data.chat import prompt_digest, prompt_messages
from loraline.data.chat_format import chat_format
from loraline.data.chat_template import served_template
from loraline.data.rows import Row
from loraline.errors import TrainingError
from loraline.models.folder import load_tokenizer, read_manifest

_PROMPTS = 64
_SMALL_FILES = {".json", ".jinja", ".txt", ".model", ".py", ".tiktoken"}  # a tokenizer's, and no weights
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


def check_served_prompts(model: Path, trained: dict[str, str], rows: list[Row]) -> None:
    """Check before training that a server of the merged model will render the prompts of training.

    Args:
        model: the model folder; the merged one will have its tokenizer.
        trained: by row id, the digests of the prompts as training encodes them.
        rows: the rows, in the same order.

    Raises:
        TrainingError: a prompt differs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (file for file in model.rglob("*") if file.is_file() and file.suffix in _SMALL_FILES):
            (folder / file.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(model))
        write_chat_template(folder)
        served = serving_prompt_digests(folder, rows)
    differing = [row_id for row_id, digest in served.items() if trained.get(row_id, digest) != digest]
    if differing:
        raise TrainingError(
            f"a server of the merged model would make other tokens of {len(differing)} of {len(served)} prompts than "
            f"training does (rows {', '.join(differing[:3])}): its chat template depends on something else than the "
            "conversation, such as the time; give one that does not with model.chat_template"
        )


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
