"""Every row format becomes the same messages; every problem of a row is reported with its place."""

import json
from typing import Any

import pytest

from loraline.data.formats.detection import convert_record, detect_format
from loraline.data.formats.row_content import RowContent
from loraline.data.reading.records import SourceRecord
from loraline.data.source_config import Columns
from loraline.errors import DatasetError


def _convert(fields: dict[str, Any], **columns: str) -> RowContent | list[tuple[str, str]]:
    """The content of a row, or column and kind of all of its problems."""
    detected = detect_format(list(fields), Columns(**columns), "rows")
    result = convert_record(SourceRecord("rows", 1, fields), detected)
    if result.problems:
        return [(problem.column, problem.kind) for problem in result.problems]
    (content,) = result.contents
    return content


def _messages(*turns: tuple[str, str]) -> RowContent:
    return RowContent([{"role": role, "content": content} for role, content in turns])


_ONE_TURN = _messages(("user", "Q"), ("assistant", "A"))
_WITH_SYSTEM = _messages(("system", "S"), ("user", "Q"), ("assistant", "A"))
_OPENAI = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
_SHAREGPT = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "Q", "completion": "A"}, _ONE_TURN),
        ({"prompt": "Q", "completion": "A", "system": "S"}, _WITH_SYSTEM),
        ({"prompt": "Q", "completion": "A", "system": None}, _ONE_TURN),
        ({"instruction": "Q", "output": "A"}, _ONE_TURN),
        ({"instruction": "Q", "input": "", "output": "A", "text": "Q A"}, _ONE_TURN),
        ({"instruction": "Q", "input": "I", "output": "A"}, _messages(("user", "Q\n\nI"), ("assistant", "A"))),
        ({"messages": _OPENAI}, _ONE_TURN),
        ({"messages": json.dumps(_OPENAI)}, _ONE_TURN),
        ({"messages": [{"role": "system", "content": "S"}, *_OPENAI]}, _WITH_SYSTEM),
        ({"conversations": _SHAREGPT}, _ONE_TURN),
        ({"conversations": _SHAREGPT, "system": "S"}, _WITH_SYSTEM),
        ({"conversations": _OPENAI}, _ONE_TURN),
        ({"conversations": [{"from": "system", "value": "S"}, *_SHAREGPT]}, _WITH_SYSTEM),
        ({"messages": _OPENAI * 2}, _messages(*[("user", "Q"), ("assistant", "A")] * 2)),
        ({"text": "T"}, RowContent(text="T")),
    ],
)
def test_formats_are_detected_from_the_columns(fields: dict[str, Any], expected: RowContent) -> None:
    assert _convert(fields) == expected


def test_configured_columns_take_precedence() -> None:
    fields = {"question": "Q", "answer": "A", "messages": [], "text": "T", "rules": "S"}
    assert _convert(fields, prompt="question", completion="answer") == _ONE_TURN
    assert _convert(fields, prompt="question", completion="answer", system="rules") == _WITH_SYSTEM
    assert _convert(fields, instruction="question", output="answer", input="text", system="rules") == _messages(
        ("system", "S"), ("user", "Q\n\nT"), ("assistant", "A")
    )
    assert _convert(fields, text="answer") == RowContent(text="A")
    assert _convert({"prompt": "Q", "reply": "A"}, completion="reply") == _ONE_TURN


def test_a_named_column_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"data\.columns\.prompt = 'qestion'.*\['question', 'answer'\]"):
        _convert({"question": "Q", "answer": "A"}, prompt="qestion", completion="answer")


def test_columns_that_fit_no_format_are_named() -> None:
    with pytest.raises(DatasetError, match=r"\['utterance', 'reply'\].*prompt \+ completion"):
        _convert({"utterance": "Q", "reply": "A"})


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
        ({"messages": ["hello", 1]}, [("messages[0]", "wrong type"), ("messages[1]", "wrong type")]),
        ({"messages": ["hello"]}, [("messages", "no assistant turn")]),
        ({"messages": [_turn("user"), _turn("robot")]}, [("messages[1].role", "unknown role")]),
        ({"messages": [_turn(["user"])]}, [("messages[0].role", "unknown role")]),
        ({"messages": [_turn("user", None), *_OPENAI[1:]]}, [("messages[0].content", "empty field")]),
        ({"messages": [_turn("system"), _turn("user")]}, [("messages", "no assistant turn")]),
        ({"messages": [_turn("user"), _turn("user"), _turn("assistant")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("assistant"), _turn("user")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("system"), _turn("assistant")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("user"), _turn("tool"), _turn("assistant")]}, [("messages", "roles out of order")]),
        ({"messages": [_turn("system"), *_OPENAI], "system": "S"}, [("messages", "roles out of order")]),
        ({"conversations": [{"from": "human", "value": 1}]}, [("conversations[0].value", "wrong type")]),
        ({"text": {}}, [("text", "wrong type")]),
    ],
)  # fmt: skip
def test_all_problems_of_a_row_are_found(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert _convert(fields) == expected


def test_a_missing_field_is_distinguished_from_an_empty_one() -> None:
    detected = detect_format(["prompt", "completion"], Columns(), "rows")
    problems = convert_record(SourceRecord("rows", 7, {"prompt": "Q"}), detected).problems
    assert str(problems[0]) == "rows:7: column 'completion': missing; the row has ['prompt']"
