"""Every shape becomes the same messages; every mistake in a row is found where it is."""

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest

from loraline.data.config import Columns, DataConfig
from loraline.data.normalize import clean
from loraline.data.reading.formats import Content, content_of, find_layout
from loraline.data.reading.records import Record
from loraline.errors import DatasetError


def _taken(fields: dict[str, Any], **columns: str) -> Content | list[tuple[str, str]]:
    """The content of a row, or column and kind of all that is wrong with it."""
    layout = find_layout(list(fields), Columns(**columns), "rows")
    outcome = content_of(Record("rows", 1, fields), layout)
    return outcome if isinstance(outcome, Content) else [(problem.column, problem.kind) for problem in outcome]


def _messages(*turns: tuple[str, str]) -> Content:
    return Content([{"role": role, "content": content} for role, content in turns])


_ASKED = _messages(("user", "Q"), ("assistant", "A"))
_TOLD = _messages(("system", "S"), ("user", "Q"), ("assistant", "A"))
_OPENAI = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
_SHAREGPT = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "Q", "completion": "A"}, _ASKED),
        ({"prompt": "Q", "completion": "A", "system": "S"}, _TOLD),
        ({"prompt": "Q", "completion": "A", "system": None}, _ASKED),
        ({"instruction": "Q", "output": "A"}, _ASKED),
        ({"instruction": "Q", "input": "", "output": "A", "text": "Q A"}, _ASKED),
        ({"instruction": "Q", "input": "I", "output": "A"}, _messages(("user", "Q\n\nI"), ("assistant", "A"))),
        ({"messages": _OPENAI}, _ASKED),
        ({"messages": json.dumps(_OPENAI)}, _ASKED),
        ({"messages": [{"role": "system", "content": "S"}, *_OPENAI]}, _TOLD),
        ({"conversations": _SHAREGPT}, _ASKED),
        ({"conversations": _SHAREGPT, "system": "S"}, _TOLD),
        ({"conversations": _OPENAI}, _ASKED),
        ({"conversations": [{"from": "system", "value": "S"}, *_SHAREGPT]}, _TOLD),
        ({"messages": _OPENAI * 2}, _messages(*[("user", "Q"), ("assistant", "A")] * 2)),
        ({"text": "T"}, Content(text="T")),
    ],
)
def test_shapes_are_found_from_the_columns(fields: dict[str, Any], expected: Content) -> None:
    assert _taken(fields) == expected


def test_named_columns_win() -> None:
    fields = {"question": "Q", "answer": "A", "messages": [], "text": "T", "rules": "S"}
    assert _taken(fields, prompt="question", completion="answer") == _ASKED
    assert _taken(fields, prompt="question", completion="answer", system="rules") == _TOLD
    assert _taken(fields, instruction="question", output="answer", input="text", system="rules") == _messages(
        ("system", "S"), ("user", "Q\n\nT"), ("assistant", "A")
    )
    assert _taken(fields, text="answer") == Content(text="A")
    assert _taken({"prompt": "Q", "reply": "A"}, completion="reply") == _ASKED


def test_a_named_column_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"data\.columns\.prompt = 'qestion'.*\['question', 'answer'\]"):
        _taken({"question": "Q", "answer": "A"}, prompt="qestion", completion="answer")


def test_columns_that_tell_no_shape_are_named() -> None:
    with pytest.raises(DatasetError, match=r"\['question', 'answer'\].*data\.columns\.prompt=question"):
        _taken({"question": "Q", "answer": "A"})


def _turn(role: Any, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "", "completion": " \n"}, [("prompt", "empty field"), ("completion", "empty answer")]),
        ({"prompt": None, "completion": 3}, [("prompt", "empty field"), ("completion", "wrong type")]),
        ({"prompt": "Q", "completion": "\ud800"}, [("completion", "invalid UTF-8")]),
        ({"prompt": "Q", "completion": "\x00\ufeff"}, [("completion", "empty answer")]),
        ({"prompt": "Q", "completion": None}, [("completion", "empty answer")]),
        ({"instruction": "Q", "output": ""}, [("output", "empty answer")]),
        ({"messages": [_turn("user"), _turn("assistant", "")]}, [("messages[1].content", "empty answer")]),
        ({"prompt": "Q", "completion": "A", "system": 1}, [("system", "wrong type")]),
        ({"instruction": "Q", "input": [], "output": "A"}, [("input", "wrong type")]),
        ({"messages": None}, [("messages", "missing field")]),
        ({"messages": 1}, [("messages", "wrong type")]),
        ({"messages": "[{"}, [("messages", "invalid JSON")]),
        ({"messages": []}, [("messages", "empty field")]),
        ({"messages": ["hello"]}, [("messages[0]", "wrong type")]),
        ({"messages": [_turn("user"), _turn("robot")]}, [("messages[1].role", "unknown role")]),
        ({"messages": [_turn(["user"])]}, [("messages[0].role", "unknown role")]),
        ({"messages": [_turn("user", None), *_OPENAI[1:]]}, [("messages[0].content", "empty field")]),
        ({"messages": [_turn("system"), _turn("user")]}, [("messages", "no assistant turn")]),
        ({"messages": [_turn("user"), _turn("user"), _turn("assistant")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("user"), _turn("assistant"), _turn("user")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("assistant"), _turn("user")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("user"), _turn("system"), _turn("assistant")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("system"), *_OPENAI], "system": "S"}, [("messages", "roles out of order")]),
        ({"conversations": [{"from": "human", "value": 1}]}, [("conversations[0].value", "wrong type")]),
        ({"text": {}}, [("text", "wrong type")]),
    ],
)  # fmt: skip
def test_everything_wrong_with_a_row_is_found(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert _taken(fields) == expected


def test_a_missing_field_is_told_from_an_empty_one() -> None:
    layout = find_layout(["prompt", "completion"], Columns(), "rows")
    problems = content_of(Record("rows", 7, {"prompt": "Q"}), layout)
    assert isinstance(problems, list)
    assert str(problems[0]) == "rows:7: column 'completion': missing; the row has ['prompt']"


def test_text_is_put_into_one_spelling() -> None:
    assert clean("e\u0301") == "\u00e9"
    assert clean("\ufeffa\r\nb\rc\x00\x1b[0m\td\x7f\ufeff") == "a\nb\nc[0m\td"


@pytest.mark.parametrize(
    "columns",
    [{"prompt": "a", "text": "b"}, {"text": "a", "system": "b"}, {"messages": "a", "output": "b"}],
)
def test_columns_of_two_shapes_are_refused(columns: dict[str, str]) -> None:
    with pytest.raises(pydantic.ValidationError, match="do not belong to one shape"):
        Columns(**columns)


def test_overlap_must_be_smaller_than_a_chunk(tmp_path: Path) -> None:
    with pytest.raises(pydantic.ValidationError, match="got 64 and 64"):
        DataConfig(source=str(tmp_path), chunk_tokens=64, chunk_overlap=64)
