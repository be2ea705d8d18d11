"""A small tokenizer, and a call of `prepare` on rows or files of a test's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from loraline.artifacts.dataset import DatasetReport
from loraline.data.config import DataConfig
from loraline.data.prepare import prepare
from loraline.safety.policy import Policy

Prepare = Callable[..., DatasetReport]

# Shows all that a row may have, in any order of roles.
SHOWS_ALL = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content %}({{ m.reasoning_content }}) {% endif %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of a few hundred tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["</s>"],
    )
    tokenizer.train_from_iterator(["What is the sum of seven and eleven? The sum is eighteen."] * 3, trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", chat_template=SHOWS_ALL).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def run(tmp_path: Path, tokenizer_folder: Path) -> Prepare:
    """Prepare a source, or rows that are written as JSON lines first; the output is `tmp_path / "out"`."""

    def call(source: str | Path | list[dict[str, Any]], policy: Policy | None = None, **config: Any) -> DatasetReport:
        if isinstance(source, list):
            rows, source = source, tmp_path / "rows.jsonl"
            source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = DataConfig(**{"source": str(source), "general_source": "", **config})
        return prepare(settings, tokenizer_folder, tmp_path / "out", policy=policy)

    return call


def pairs(number: int, first: int = 0) -> list[dict[str, str]]:
    """Rows of prompt and completion, no two alike, with what is hard on formats."""
    return [
        {"prompt": f'What is "{n}", \u00e9\u4e2d\t{n}?', "completion": f"It is\n{n}, of course."}
        for n in range(first, first + number)
    ]
