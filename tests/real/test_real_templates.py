"""The chat templates that models ship, times the shapes of conversation, with real tokenizers.

Each row is either told to be a bad row, with its reason, before anything is trained, or training, evaluation and
serving make the same tokens of it, and a model that says what it was taught is right.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message
from loraline.data.chat import encode_prompt, encode_row, last_prompt, prompt_messages, stop_token_ids
from loraline.data.chat_format import chat_format
from loraline.data.chat_template import served_template
from loraline.data.rows import Row
from loraline.data.template_check import TemplateCheck
from loraline.evaluation.answer_text import read_reference
from loraline.evaluation.generate import before_stop
from tests.loraline.data.templates import CALL, RESULT, TOOL

pytestmark = pytest.mark.real  # a vocabulary takes up to a minute to read

_DATA = Path(__file__).parents[3] / "shared/data"
_TEMPLATES = sorted((_DATA / "chat-templates").glob("*.jinja"))
_VOCABULARIES = {
    "deepseek-ai-DeepSeek-V3": "deepseek-llm", "google": "llama-spm", "microsoft": "phi-3", "mistralai-Mistral":
    "llama-spm", "Qwen": "qwen2", "GLM": "qwen2", "openai": "qwen2", "ibm": "gpt-2",
}  # fmt: skip
# Tokens of the templates' own models, which the vocabulary at hand lacks.
_SPECIAL = re.compile(
    r"<\|[\w ]+?\|>|<\uff5c[^\uff5c<>]+\uff5c>|<(?:start|end)_of_turn>|"
    r"\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|ARGS)\]|<sop>|\[gMASK\]"
)
_ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>")

ASKED: Message = {"role": "user", "content": "hi"}
SAID: Message = {"role": "assistant", "content": "Hello there."}
NEXT: Message = {"role": "user", "content": "What is 2+2? "}
LAST: Message = {"role": "assistant", "content": "It is 4."}
SYSTEM: Message = {"role": "system", "content": "Be kind."}
THOUGHT: Message = {**LAST, "reasoning_content": "Two and two."}
SHAPES = {
    "single": Row.of([NEXT, LAST]),
    "spaces": Row.of([NEXT, {**LAST, "content": "\n\n- a\n- b\n"}]),
    "multi": Row.of([ASKED, SAID, NEXT, LAST]),
    "system": Row.of([SYSTEM, ASKED, SAID, NEXT, LAST]),
    "system-in-the-middle": Row.of([ASKED, SAID, SYSTEM, NEXT, LAST]),
    "developer": Row.of([{"role": "developer", "content": "Be terse."}, NEXT, LAST]),
    "assistant-first": Row.of([SAID, NEXT, LAST]),
    "tools": Row.of([NEXT, LAST], tools=[TOOL]),
    "call": Row.of([ASKED, CALL], tools=[TOOL]),
    "calls": Row.of([ASKED, {**CALL, "tool_calls": CALL["tool_calls"] * 2}], tools=[TOOL]),
    "result": Row.of([ASKED, CALL, RESULT, LAST], tools=[TOOL]),
    "agent": Row.of([SYSTEM, ASKED, CALL, RESULT, SAID, NEXT, CALL], tools=[TOOL]),
    "reasoning": Row.of([NEXT, THOUGHT]),
    "reasoning-twice": Row.of([ASKED, {**THOUGHT, "content": "Hello."}, NEXT, THOUGHT]),
    "reasoning-inline": Row.of([NEXT, {**LAST, "content": "<think>\nTwo and two.\n</think>\n\nIt is 4."}]),
    "reasoning-call": Row.of([ASKED, {**CALL, "reasoning_content": "I need it."}], tools=[TOOL]),
    "not-trained": Row.of([ASKED, {**SAID, "train": False}, NEXT, LAST]),
}


@cache
def _vocabulary(name: str) -> PreTrainedTokenizerBase:
    tokenizer: Any = AutoTokenizer.from_pretrained(_DATA / "vocabularies", gguf_file=f"ggml-vocab-{name}.gguf")
    return tokenizer


def _tokenizer(file: Path) -> PreTrainedTokenizerBase:
    name = next((vocabulary for start, vocabulary in _VOCABULARIES.items() if file.stem.startswith(start)), "llama-bpe")
    tokenizer = _vocabulary(name)
    template = file.read_text(encoding="utf-8")
    known = tokenizer.get_vocab()
    special = [AddedToken(one, special=True) for one in dict.fromkeys(_SPECIAL.findall(template)) if one not in known]
    tokenizer.add_tokens([*special, *(AddedToken(one, normalized=False) for one in _ADDED if one not in known)])
    tokenizer.eos_token = tokenizer.eos_token or "</s>"
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.skipif(not _TEMPLATES, reason="there are no chat templates of models here (shared/data/chat-templates)")
@pytest.mark.parametrize("file", _TEMPLATES, ids=lambda file: file.stem)
def test_training_evaluation_and_serving_agree_or_the_row_is_bad(file: Path) -> None:
    tokenizer = _tokenizer(file)
    check = TemplateCheck(tokenizer)
    shown = 0
    for shape, row in SHAPES.items():
        if check.check(row).problem:
            continue
        shown += 1
        encoded = encode_row(tokenizer, row)
        prompt = last_prompt(encoded)
        given: Any = chat_format(tokenizer, row.tools).messages(prompt_messages(row))
        tools: Any = row.tools
        served = tokenizer.apply_chat_template(
            given,
            tools=tools,
            chat_template=served_template(tokenizer, bool(tools)),
            add_generation_prompt=True,
            return_dict=False,
        )
        assert prompt == served == encode_prompt(tokenizer, prompt_messages(row), row.tools), shape
        answer, finished = before_stop(encoded.token_ids[len(prompt) :], stop_token_ids(tokenizer))
        assert finished, shape
        reference = read_reference(tokenizer, row, answer)
        said = reference.read(tokenizer, answer)
        last = (row.messages or [])[-1]
        expected = "\n".join(['weather({"city": "Graz", "days": 2})'] * len(last.get("tool_calls", [])))
        assert said == reference.text, shape
        # Markers of another model's reasoning are ordinary text.
        assert said.endswith(expected or (last["content"] or "").rpartition("</think>")[2].strip()), shape
    assert shown >= 5
