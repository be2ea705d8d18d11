"""Templates of every kind with both kinds of tokenizers: training, evaluation and serving agree token by token."""

from typing import Any

import pytest
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat import encode_prompt, encode_row, last_prompt, prompt_messages, stop_token_ids
from loraline.data.chat_format import chat_format
from loraline.data.chat_template import served_template
from loraline.data.rows import Row
from loraline.evaluation.answer_text import Reference, read_reference
from loraline.evaluation.generate import before_stop
from tests.loraline.data.templates import (
    CALL,
    CHATML,
    INST,
    LAST_SYSTEM,
    MARKED,
    OPENS,
    PARTS,
    RESULT,
    THINKS,
    TOOL,
    TOOLS,
    byte_tokenizer,
    piece_tokenizer,
)

__all__ = ["byte_tokenizer", "piece_tokenizer"]

ASKED: Message = {"role": "user", "content": "hi"}
SAID: Message = {"role": "assistant", "content": "hello"}
NEXT: Message = {"role": "user", "content": "the sum?"}
LAST: Message = {"role": "assistant", "content": "5"}
SYSTEM: Message = {"role": "system", "content": "be kind"}
THOUGHT: Message = {**LAST, "reasoning_content": "the sum of 2"}
CASES = {
    "chatml": (CHATML, Row.of([ASKED, SAID, NEXT, LAST])),
    "chatml-spaces": (CHATML, Row.of([ASKED, {**SAID, "content": "\n\n hello "}])),
    "llama-2": (INST, Row.of([ASKED, SAID, NEXT, LAST])),
    "last-system": (LAST_SYSTEM, Row.of([SYSTEM, ASKED, SAID, NEXT, LAST])),
    "opens-reasoning": (OPENS, Row.of([ASKED, THOUGHT])),
    "opens-without": (OPENS, Row.of([ASKED, LAST])),
    "opens-inline": (OPENS, Row.of([ASKED, {**LAST, "content": "<think>\nthe sum of 2\n</think>\n\n5"}])),
    "thinks": (THINKS, Row.of([ASKED, SAID, NEXT, THOUGHT])),
    "thinks-without": (THINKS, Row.of([ASKED, SAID])),
    "parts": (PARTS, Row.of([SYSTEM, ASKED, THOUGHT])),
    "marked": (MARKED, Row.of([ASKED, SAID, NEXT, LAST])),
    "call": (TOOLS, Row.of([ASKED, CALL], tools=[TOOL])),
    "result": (TOOLS, Row.of([ASKED, CALL, RESULT, LAST], tools=[TOOL])),
}


def served(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[int]:
    """The prompt as a server makes it, with the template that a merged model carries."""
    given: Any = chat_format(tokenizer, row.tools).messages(prompt_messages(row))
    tools: Any = row.tools
    made: Any = tokenizer.apply_chat_template(
        given, tools=tools, chat_template=served_template(tokenizer), add_generation_prompt=True, return_dict=False
    )
    return list(made)


def taught(tokenizer: PreTrainedTokenizerBase, row: Row) -> tuple[Reference, str]:
    """The reference of a row, and how a model is read that says exactly what the row teaches."""
    encoded = encode_row(tokenizer, row)
    answer, finished = before_stop(encoded.token_ids[encoded.prompt_length :], stop_token_ids(tokenizer))
    assert finished
    reference = read_reference(tokenizer, row, answer)
    return reference, reference.read(tokenizer, answer)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["byte_tokenizer", "piece_tokenizer"])
def test_training_evaluation_and_serving_agree(case: str, kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: PreTrainedTokenizerFast = request.getfixturevalue(kind)
    template, row = CASES[case]
    tokenizer.chat_template = template
    encoded = encode_row(tokenizer, row)
    assert last_prompt(encoded) == served(tokenizer, row) == encode_prompt(tokenizer, prompt_messages(row), row.tools)
    assert all(encoded.loss_mask[encoded.prompt_length :])
    reference, said = taught(tokenizer, row)
    assert said == reference.text
    last = (row.messages or [])[-1]
    expected = 'weather({"city": "Graz", "days": 2})' if "tool_calls" in last else (last["content"] or "").strip()
    assert said == expected.rpartition("</think>")[2].strip()
    if case in ("opens-reasoning", "opens-inline", "thinks", "parts"):
        assert "the sum of 2" in tokenizer.decode(encoded.token_ids[encoded.prompt_length :])


@pytest.mark.parametrize("case", ["chatml", "llama-2", "marked"])
@pytest.mark.parametrize("kind", ["byte_tokenizer", "piece_tokenizer"])
def test_every_answer_carries_loss(case: str, kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: PreTrainedTokenizerFast = request.getfixturevalue(kind)
    tokenizer.chat_template, row = CASES[case]
    encoded = encode_row(tokenizer, row)
    learned = [t for t, loss in zip(encoded.token_ids, encoded.loss_mask, strict=True) if loss]
    end = "</s>" if case == "llama-2" else "<|end|>"
    assert tokenizer.decode(learned).replace(" ", "") == f"hello{end}5{end}"
    assert (encoded.silent_turns, encoded.is_joined) == (0, False)


def test_llama_2_rows_are_tokenized_as_a_whole(piece_tokenizer: PreTrainedTokenizerFast) -> None:
    piece_tokenizer.chat_template = INST
    row = CASES["llama-2"][1]
    whole = "<s>[INST] hi [/INST] hello </s>[INST] the sum? [/INST] 5 </s>"
    assert encode_row(piece_tokenizer, row).token_ids == piece_tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_a_token_across_prompt_and_answer_is_cut_and_told(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:\nhe{% endif %}"
    )
    byte_tokenizer.chat_template = byte_tokenizer.chat_template.replace(
        "\n{{ m.content }}", "\n{% if m.role == 'assistant' %}he{% endif %}{{ m.content }}"
    )
    row = Row.of([ASKED, {"role": "assistant", "content": "llo"}])
    encoded = encode_row(byte_tokenizer, row)
    assert encoded.is_joined  # "hello" is one token of this tokenizer
    assert last_prompt(encoded) == served(byte_tokenizer, row)
    assert byte_tokenizer.decode(encoded.token_ids[encoded.prompt_length :]) == "llo</s>"


def test_a_tokenizer_without_offsets_teaches_the_last_answer_and_says_so() -> None:
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = CHATML
    row = CASES["chatml"][1]
    encoded = encode_row(tokenizer, row)
    assert (encoded.is_joined, encoded.silent_turns) == (True, 1)
    assert last_prompt(encoded) == served(tokenizer, row)


def test_calls_are_equal_whatever_the_order_of_their_arguments(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokenizer.chat_template = TOOLS
    reference, _ = taught(byte_tokenizer, CASES["call"][1])
    for text, equal in (
        ('<call>weather {"days":2,  "city": "Graz"}</call>', True),
        ('<call>weather {"days": 3, "city": "Graz"}</call>', False),
        ('<call>rain {"days": 2, "city": "Graz"}</call>', False),
        ('I would call weather {"days": 2, "city": "Graz"', False),
    ):
        ids = byte_tokenizer(text, add_special_tokens=False)["input_ids"]
        assert (reference.read(byte_tokenizer, ids) == reference.text) == equal


def test_developer_messages_are_system_messages_where_a_template_knows_none(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    byte_tokenizer.chat_template = CHATML.replace("in messages", "in messages if m.role != 'developer'")
    given: list[Message] = [{"role": "developer", "content": "be kind"}, ASKED]
    assert byte_tokenizer.decode(encode_prompt(byte_tokenizer, given)).startswith("<|turn|>system\nbe kind")
    tools: list[Tool] = [TOOL]
    assert chat_format(byte_tokenizer, tools) is chat_format(byte_tokenizer, tools)
