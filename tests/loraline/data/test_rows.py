from pathlib import Path

import pytest

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.rows import Row, RowWriter, content_hash, read_rows, read_rows_at, stream_rows
from loraline.errors import DatasetError


def _turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]


def _some_row(number: int) -> Row:
    if number % 5 == 0:
        return Row.of(text=f"text {number}", origin=f"a:{number}")
    return Row.of(_turns(*["\u00e9" * number, "b"] * (number % 3)), origin=f"a:{number}")


def test_rows_are_read_as_written_sorted_by_id(tmp_path: Path) -> None:
    rows = [_some_row(number) for number in range(2500)]
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for row in rows:
            writer.write(row)
    assert read_rows(tmp_path / "rows.parquet") == sorted(rows, key=lambda row: row.id)


def test_the_id_depends_on_content_alone() -> None:
    assert Row.of(_turns("a", "b"), origin="x:1").id == Row.of(_turns("a", "b"), origin="y:2").id
    others = [_turns("a", "c"), _turns("ab", ""), _turns("a", "b", "c"), _turns("b", "a")]
    ids = {content_hash(turns, None) for turns in [_turns("a", "b"), *others]} | {content_hash(None, "a")}
    assert len(ids) == 6


_TOOLS: list[Tool] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
_AGENT: list[Message] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Rain in Graz?"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I need the weather.",
        "tool_calls": [{"name": "weather", "arguments": {"city": "Graz", "days": [1, 2]}, "id": "c1"}],
        "train": False,
    },
    {"role": "tool", "content": "dry", "tool_call_id": "c1", "name": "weather"},
    {"role": "assistant", "content": "No."},
]


def test_tools_calls_and_reasoning_are_read_as_written(tmp_path: Path) -> None:
    rows = [Row.of(_AGENT, origin="a:1", tools=_TOOLS), *(_some_row(number) for number in range(2000))]
    with RowWriter(tmp_path / "rows.parquet") as writer:
        for row in rows:
            writer.write(row)
    assert list(stream_rows(tmp_path / "rows.parquet")) == rows
    assert read_rows_at(tmp_path / "rows.parquet", [0]) == {0: rows[0]}


def test_the_id_covers_tools_calls_reasoning_and_what_carries_loss() -> None:
    base = content_hash(_AGENT, None, _TOOLS)
    call, result = _AGENT[2], _AGENT[3]
    changed: list[Message] = [
        {**call, "tool_calls": [{"name": "weather", "arguments": {"city": "Linz"}}]},
        {**call, "reasoning_content": "I know it."},
        {**call, "train": True},
        {**call, "content": ""},
    ]
    others = [[*_AGENT[:2], one, *_AGENT[3:]] for one in changed]
    others.append([*_AGENT[:3], {**result, "tool_call_id": "c2"}, _AGENT[4]])
    assert len({base, content_hash(_AGENT, None), *(content_hash(one, None, _TOOLS) for one in others)}) == 7


def test_the_id_of_plain_rows_is_as_it_was() -> None:
    assert content_hash(_turns("a", "b"), None) == "4da4296719648e282cbb802aef458a13"


def test_no_rows_at_all(tmp_path: Path) -> None:
    with RowWriter(tmp_path / "rows.parquet"):
        pass
    assert read_rows(tmp_path / "rows.parquet") == []


def test_a_file_that_is_no_prepared_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"missing\.parquet"):
        read_rows(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DatasetError, match=r"text\.parquet"):
        read_rows(tmp_path / "text.parquet")
