"""Rows in the shapes of published datasets and of other trainers' examples: each is read, refused with the reason, or
left out by count. The rows are our own."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from loraline.artifacts.dataset_files import EVAL_ROWS, TRAIN_ROWS, Message
from loraline.data.formats.detection import Converted, convert_record, detect_format
from loraline.data.reading.records import SourceRecord
from loraline.data.rows import Row, read_rows
from loraline.data.source_config import Columns
from loraline.errors import DatasetError
from tests.loraline.data.conftest import Prepare, pairs


def convert(fields: dict[str, Any], **columns: str) -> Converted:
    return convert_record(SourceRecord("rows", 1, fields), detect_format(list(fields), Columns(**columns), "rows"))


def messages(fields: dict[str, Any], **columns: str) -> list[Message]:
    converted = convert(fields, **columns)
    assert not converted.problems, converted.problems
    assert not converted.left_out
    (content,) = converted.contents
    assert content.messages
    return content.messages


def said(turns: list[Message]) -> list[tuple[str, str | None]]:
    return [(turn["role"], turn["content"]) for turn in turns]


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


QA = [("user", "Q"), ("assistant", "A")]
WEATHER = {"name": "weather", "description": "The weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "weather", "arguments": {"city": "Bonn", "days": 2}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"question": "Q", "answer": "A"}, QA),
        ({"Question": "Q", "Answer": "A"}, QA),
        ({"query": "Q", "response": "A"}, QA),
        ({"input": "Q", "output": "A"}, QA),
        # OpenOrca, and others of Axolotl's list
        ({"id": "1", "system_prompt": "S", "question": "Q", "response": "A"}, [("system", "S"), *QA]),
        ({"INSTRUCTION": "Q", "RESPONSE": "A"}, QA),
        ({"article": "C", "question": "Q", "answer": "A"}, [("user", "Q\n\nC"), ("assistant", "A")]),
        ({"question": "Q", "context": "C", "answer": "A"}, [("user", "Q\n\nC"), ("assistant", "A")]),
        ({"problem": "Q", "solution": "A", "level": 3}, QA),
        # Dolly
        (
            {"instruction": "Q", "context": "C", "response": "A", "category": "closed_qa"},
            [("user", "Q\n\nC"), ("assistant", "A")],
        ),
        ({"instruction": "Q", "context": "", "response": "A", "category": "open_qa"}, QA),
        # Alpaca with what LLaMA-Factory adds
        ({"instruction": "", "input": "Q", "output": "A"}, QA),
        (
            {"instruction": "Q", "input": "", "output": "A", "system": "S", "history": [["Q1", "A1"], ["Q2", "A2"]]},
            [
                ("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2"),
                ("user", "Q"), ("assistant", "A"),
            ],
        ),
        ({"instruction": "Q", "output": "A", "history": "[]"}, QA),
        # conversations under other names, with other roles
        ({"conversation": [{"role": "User", "content": "Q"}, {"role": "model", "content": "A"}]}, QA),
        ({"conversations": [{"from": "human", "value": "Q"}, {"from": "chatgpt", "value": "A"}]}, QA),
        ({"conversations": ["Q", "A"]}, QA),
        ({"conversation": [{"system": "S", "input": "Q", "output": "A"}]}, [("system", "S"), *QA]),
        (
            {"messages": [{"role": "developer", "content": "D"}, user("Q"), assistant("A")]},
            [("developer", "D"), *QA],
        ),
        # a system prompt in the middle
        (
            {
                "messages": [
                    user("Q"), assistant("A"),
                    {"role": "system", "content": "S"}, user("Q"), assistant("B"),
                ]
            },
            [*QA, ("system", "S"), ("user", "Q"), ("assistant", "B")],
        ),
        # TRL's conversational prompt-completion
        (
            {"prompt": [user("Q")], "completion": [assistant("A")]},
            QA,
        ),
        # content as a list of parts
        (
            {"messages": [user([{"type": "text", "text": "Q"}]), assistant("A")]},
            QA,
        ),
    ],
)  # fmt: skip
def test_as_they_are(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert said(messages(fields)) == expected


def test_sharegpt_with_tools() -> None:
    """LLaMA-Factory's glaive demo: calls and observations as turns, the tools as JSON text."""
    fields = {
        "conversations": [
            {"from": "human", "value": "Will it rain?"},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": '{"rain": true}'},
            {"from": "gpt", "value": "It will."},
        ],
        "tools": json.dumps([WEATHER]),
    }
    (content,) = convert(fields).contents
    assert content.tools == [{"type": "function", "function": WEATHER}]
    assert content.messages == [
        user("Will it rain?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": '{"rain": true}'},
        assistant("It will."),
    ]
    broken = convert(
        fields | {"conversations": [*fields["conversations"][:1], {"from": "function_call", "value": "rain?"}]}
    )
    assert [(one.column, one.kind) for one in broken.problems] == [("conversations[1].value", "tool call")]
    assert convert(fields | {"tools": "[]"}).contents[0].tools is None
    assert [one.kind for one in convert(fields | {"tools": '[{"parameters": {}}]'}).problems] == ["tool"]


@pytest.mark.parametrize("arguments", [{"city": "Bonn"}, '{"city": "Bonn"}', '"{\\"city\\": \\"Bonn\\"}"'])
def test_openai_tool_calls(arguments: Any) -> None:
    """Arguments as JSON text, as the API gives them; as an object; and as text of text, as one finds them."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    fields = {
        "messages": [
            user("Rain?"),
            {"role": "assistant", "content": None, "tool_calls": [call, call | {"id": "c2"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "no"},
            {"role": "tool", "tool_call_id": "c2", "name": "weather", "content": {"rain": False}},
            {"role": "assistant", "content": "No.", "weight": 1},
        ],
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": WEATHER}],
    }
    (content,) = convert(fields).contents
    assert content.messages
    assert content.messages[1:4] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"name": "weather", "arguments": {"city": "Bonn"}, "id": name} for name in ("c1", "c2")],
        },
        {"role": "tool", "content": "no", "tool_call_id": "c1"},
        {"role": "tool", "content": '{"rain": false}', "tool_call_id": "c2", "name": "weather"},
    ]
    legacy = {
        "messages": [
            user("Rain?"),
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": arguments}},
        ],
        "functions": [WEATHER],
    }
    (content,) = convert(legacy).contents
    assert content.messages
    assert content.messages[-1].get("tool_calls") == [{"name": "weather", "arguments": {"city": "Bonn"}}]
    assert content.tools == [{"type": "function", "function": WEATHER}]


def test_parts_with_reasoning_and_calls() -> None:
    """LLaMA-Factory's newer files: the text of a part under `value`, a loss weight for each turn."""
    parts = [
        {"type": "reasoning", "value": "I look it up."},
        {"type": "text", "value": "One moment."},
        {"type": "tool_call", "value": json.dumps(CALL)},
    ]
    turns = [
        {"role": "user", "content": [{"type": "text", "value": "Rain?"}], "loss_weight": 0.0},
        {"role": "assistant", "content": parts, "loss_weight": 1.0},
        {"role": "tool", "content": [{"type": "text", "value": "no"}], "loss_weight": 0.0},
        {"role": "assistant", "content": [{"type": "text", "value": "No."}], "loss_weight": 0.0},
    ]
    assert messages({"messages": turns})[1:] == [
        {"role": "assistant", "content": "One moment.", "tool_calls": [CALL], "reasoning_content": "I look it up."},
        {"role": "tool", "content": "no"},
        {"role": "assistant", "content": "No.", "train": False},
    ]


def _conversation(**last: Any) -> dict[str, Any]:
    first = [user("Q"), {"role": "assistant", "content": "A", "train": True}]
    return {"messages": [*first, user("Q2"), {"role": "assistant", "content": "A2", **last}]}


@pytest.mark.parametrize("last", [{"weight": 0}, {"train": False}, {"training": False}, {"loss_weight": 0.0}])
def test_turns_without_loss(last: dict[str, Any]) -> None:
    turns = messages(_conversation(**last))
    assert [turn.get("train", True) for turn in turns] == [True, True, True, False]


def test_weights_that_no_turn_can_have() -> None:
    assert [one.kind for one in convert(_conversation(weight=0.5)).problems] == ["weight of a turn"]
    none = {"messages": [user("Q"), {"role": "assistant", "content": "A", "weight": 0}]}
    assert "no turn is trained on" in convert(none).left_out


def test_reasoning_of_a_turn_is_kept_and_unread_keys_are_noted() -> None:
    converted = convert(_conversation(reasoning_content="Hm.", refusal="no", annotations=[]))
    assert converted.contents[0].messages
    assert converted.contents[0].messages[-1].get("reasoning_content") == "Hm."
    assert converted.notes == ("keys of turns that are not read: refusal",)


def test_ends_without_an_answer_are_left_out_and_noted() -> None:
    turns = [{"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
    converted = convert(
        {"conversations": [{"from": "system", "value": "S"}, *turns, {"from": "human", "value": "Thanks"}]}
    )
    assert converted.contents[0].messages
    assert said(converted.contents[0].messages) == [("system", "S"), *QA]
    assert converted.notes == (
        "the assistant's turns before the first of the user are left out",
        "the turns after the last of the assistant are left out",
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": _conversation()["messages"], "images": ["a.png"]},
        {"instruction": "Q", "output": "A", "image": "a.png"},
        {"messages": [user([{"type": "image_url", "image_url": {"url": "a.png"}}]), assistant("A")]},
        {"messages": [user("Q", images=["a.png"]), assistant("A")]},
        {"messages": [user([{"type": "input_audio", "input_audio": {}}]), assistant("A")]},
    ],
)  # fmt: skip
def test_images_are_never_dropped_without_a_word(fields: dict[str, Any]) -> None:
    assert {one.kind for one in convert(fields).problems} >= {"image, audio or video"}
    assert not convert(_conversation() | {"images": []}).problems


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Q", "completion": "A"},
        {"messages": [user("Q"), assistant("A")]},
    ],
)
def test_answers_marked_as_bad_are_not_trained_on(fields: dict[str, Any]) -> None:
    for bad in (False, "false", "False"):
        assert "marked as bad" in convert(fields | {"label": bad}).left_out
    assert said(messages(fields | {"label": True})) == QA
    assert said(messages(fields | {"label": "positive"})) == QA, "a class, not a verdict"
    assert "marked as bad" in convert(fields | {"good": 0}, label="good").left_out


CHOSEN, REJECTED = {"from": "gpt", "value": "A"}, {"from": "gpt", "value": "B"}
PREFERENCES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"prompt": "Q", "chosen": "A", "rejected": "B"}, {"prompt": "prompt", "completion": "chosen"}),
    (
        {"conversations": [{"from": "human", "value": "Q"}], "chosen": CHOSEN, "rejected": REJECTED},
        {"conversations": "conversations", "completion": "chosen"},
    ),
    (
        {
            "prompt": "Q",
            "chosen": [user("Q"), assistant("A")],
            "rejected": [user("Q"), assistant("B")],
        },
        {"messages": "chosen"},
    ),
    ({"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"}, {"messages": "chosen"}),
    (
        {"instruction": "Q", "input": "", "chosen": "A", "rejected": "B"},
        {"prompt": "instruction", "completion": "chosen"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "columns"), PREFERENCES)
def test_preferences_are_trained_on_only_when_asked(
    fields: dict[str, Any], columns: dict[str, str], tmp_path: Path, run: Prepare
) -> None:
    with pytest.raises(DatasetError, match="rejected answer"):
        convert(fields)
    assert said(messages(fields, **columns)) == QA
    # the error proposes what works
    with pytest.raises(DatasetError, match=r"Try data\.columns.*: 60 of the first 60 rows are valid") as caught:
        run([json.loads(json.dumps(fields).replace('Q"', f'Q{n}"').replace("Q\\n", f"Q{n}\\n")) for n in range(60)])
    for part, column in columns.items():
        assert f"data.columns.{part}={column}" in str(caught.value)


def test_nested_instances_are_rows(tmp_path: Path, run: Prepare) -> None:
    task = {
        "id": "t",
        "name": "n",
        "instruction": "Q",
        "instances": [{"input": "", "output": "A"}, {"input": "I", "output": "B"}],
    }
    first, second = convert(task).contents
    assert first.messages
    assert second.messages
    assert said(first.messages) == QA
    assert said(second.messages) == [("user", "Q\n\nI"), ("assistant", "B")]
    report = run([task | {"instruction": f"Task {n}"} for n in range(40)])
    assert report.rows.read == 80


def _node(number: str, role: str, *replies: dict[str, Any], rank: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "message_id": number,
        "text": f"text {number}",
        "role": role,
        "rank": rank,
        "replies": list(replies),
        **more,
    }


def _tree(name: str) -> dict[str, Any]:
    """A prompt with two ranked answers; the better one has two follow-ups, one of them answered."""
    better = _node(
        f"{name}b",
        "assistant",
        _node(f"{name}c", "prompter", _node(f"{name}d", "assistant")),
        _node(f"{name}e", "prompter", _node(f"{name}f", "assistant")),
        _node(f"{name}g", "prompter"),
        rank=0,
    )
    worse = _node(f"{name}x", "assistant", rank=1)
    return {"message_tree_id": name, "prompt": _node(f"{name}a", "prompter", worse, better)}


def _flat(node: dict[str, Any], parent: str | None, tree: str) -> list[dict[str, Any]]:
    row = {key: value for key, value in node.items() if key != "replies"} | {
        "parent_id": parent,
        "message_tree_id": tree,
    }
    return [row, *(one for reply in node["replies"] for one in _flat(reply, node["message_id"], tree))]


def test_message_trees() -> None:
    converted = convert(_tree("t"))
    turns = [content.messages for content in converted.contents]
    assert [said(one or []) for one in turns] == [
        [("user", "text ta"), ("assistant", "text tb"), ("user", f"text t{last[0]}"), ("assistant", f"text t{last[1]}")]
        for last in ("cd", "ef")
    ]
    assert [[turn.get("train", True) for turn in one or []] for one in turns] == [[True] * 4, [True, False, True, True]]
    assert converted.group == "t"
    assert any("ranked" in note for note in converted.notes)
    assert "without an answer" in convert({"message_tree_id": "u", "prompt": _node("u", "prompter")}).left_out


def _contents(folder: Path) -> list[list[tuple[str, str | None]]]:
    rows = [row for file in (TRAIN_ROWS, EVAL_ROWS) for row in read_rows(folder / "out" / file)]
    return sorted(said(row.messages or []) for row in rows)


def test_trees_and_flat_messages_give_the_same_rows(tmp_path: Path, run: Prepare) -> None:
    trees = [_tree(f"tree{number}-") for number in range(30)]
    assert run(trees).rows.read == 60
    of_trees = _contents(tmp_path)
    flat = [row for tree in trees for row in _flat(tree["prompt"], None, tree["message_tree_id"])]
    report = run(flat[::-1])
    assert report.rows.read == 60
    assert _contents(tmp_path) == of_trees
    assert report.sources[0].row_format == "tree messages"
    assert "### " not in str(of_trees)


def test_transcripts_in_a_text_column_are_told(tmp_path: Path, run: Prepare) -> None:
    """openassistant-guanaco: plain text unless the recipe says otherwise."""
    rows = [{"text": f"### Human: Q{n}?### Assistant: A{n}: so.### Human: And?### Assistant: B"} for n in range(60)]
    (note,) = run(rows).notes
    assert note.rows == 60
    assert "data.columns.messages=text reads their turns" in note.kind
    report = run(rows, columns={"messages": "text"})
    assert not report.notes
    assert [("user", "Q1?"), ("assistant", "A1: so."), ("user", "And?"), ("assistant", "B")] in _contents(tmp_path)
    assert all(len(turns) == 4 for turns in _contents(tmp_path))
    assert not run([{"text": f"User: a word at the beginning {n}"} for n in range(60)]).notes


def test_calls_as_text() -> None:
    """glaive-function-calling-v2: one text with tags, arguments in single quotes."""
    preamble = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -"
    call = """<functioncall> {"name": "weather", "arguments": '{"city": "Bonn", "days": 2}'} <|endoftext|>"""
    fields = {
        "system": f"{preamble}\n{json.dumps(WEATHER, indent=1)}\n",
        "chat": f"USER: Rain in Bonn?\n\n\nASSISTANT: {call}\n\n\n"
        'FUNCTION RESPONSE: {"rain": false}\n\n\nASSISTANT: No: none. <|endoftext|>\n\n',
    }
    (content,) = convert(fields).contents
    assert content.tools == [{"type": "function", "function": WEATHER}]
    assert content.messages == [
        {"role": "system", "content": "You are a helpful assistant."},
        user("Rain in Bonn?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": '{"rain": false}'},
        assistant("No: none."),
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": "Q", "completions": ["A"], "labels": [True]}, "right or wrong"),
        ({"input_ids": [1], "labels": [1]}, "tokens"),
        ({"segments": [{"label": True, "text": "T"}]}, "segments"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        convert(fields)


def test_nulls_that_arrow_fills_in_are_not_read(tmp_path: Path, run: Prepare) -> None:
    """In parquet every object has the keys of all: other tools' parameters, the calls of other turns."""
    tools = [WEATHER | {"parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]
    other = [WEATHER | {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}]
    rows = []
    for number in range(40):
        key = "city" if number % 2 else "zone"
        call = {"function": {"name": "weather", "arguments": {key: "x"}}}
        turns = [
            user(f"Q{number}"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
        rows.append({"messages": turns, "tools": tools if number % 2 else other})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    run(tmp_path / "rows.parquet")
    row: Row = read_rows(tmp_path / "out" / TRAIN_ROWS)[0]
    assert row.messages
    assert row.tools
    assert None not in row.tools[0]["function"]["parameters"]["properties"].values()
    assert len(row.messages[1]["tool_calls"][0]["arguments"]) == 1


def test_a_proposal_is_one_that_works(tmp_path: Path, run: Prepare) -> None:
    rows = [{"utterance": row["prompt"], "topic": "x", "reply": row["completion"]} for row in pairs(60)]
    with pytest.raises(
        DatasetError, match=r"Try data\.columns\.prompt=utterance data\.columns\.completion=reply: 60 of"
    ):
        run(rows)
    assert run(rows, columns={"prompt": "utterance", "completion": "reply"}).rows.read == 60
    threads = [{"thread": [user(row["prompt"]), assistant("A")]} for row in pairs(60)]
    with pytest.raises(DatasetError, match=r"Try data\.columns\.messages=thread: 60 of"):
        run(threads)
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        DatasetError, match=r"Try data\.general_source='\{source: .*general.jsonl\", columns: \{prompt: utterance"
    ):
        run(pairs(60), general_source=str(tmp_path / "general.jsonl"))
    squad = {"id": "5", "title": "T", "context": "Long.", "question": "Why?", "answers": {"text": ["A"]}}
    for unreadable in ({"pixels": [1, 2]}, squad):
        with pytest.raises(DatasetError, match=r"fit none of the known row formats \([^)]*\)\.$"):
            run([unreadable] * 60)


def test_notes_and_left_out_rows_are_counted_with_their_lines(tmp_path: Path, run: Prepare) -> None:
    rows = [row | {"label": number % 3 != 0} for number, row in enumerate(pairs(90))]
    report = run(rows)
    assert (report.rows.read, report.rows.left_out) == (90, 30)
    (note,) = report.notes
    assert (note.rows, note.left_out) == (30, True)
    assert note.origins[:2] == [f"{tmp_path / 'rows.jsonl'}:1", f"{tmp_path / 'rows.jsonl'}:4"]
    assert "30 left out for what they are" in report.headline()
    assert "marked as bad" in (tmp_path / "out" / "report.html").read_text()
    with_ends = [{"messages": [*_conversation()["messages"], user(f"Thanks {n}")]} for n in range(3)]
    unlike = [{"messages": [user(p["prompt"]), assistant("A")]} for p in pairs(60)]
    report = run([*unlike, *with_ends])
    assert [(note.kind, note.rows, note.left_out) for note in report.notes] == [
        ("the turns after the last of the assistant are left out", 3, False)
    ]
    assert "the turns after the last of the assistant are left out" in (tmp_path / "out" / "report.html").read_text()
