"""The files of a prepared dataset, its sets of rows, and the types of a conversation."""

from typing import Any, Literal, Required

from typing_extensions import TypedDict

TRAIN_ROWS = "train.parquet"
EVAL_ROWS = "eval.parquet"
GENERAL_ROWS = "general.parquet"
"""The general evaluation set, on which forgetting is measured; only where data.general_source is set."""
BAD_ROWS = "bad_rows.jsonl"
PAGE = "report.html"

Split = Literal["train", "eval"]
RowSet = Literal["train", "eval", "general"]
ROW_FILES: dict[RowSet, str] = {"train": TRAIN_ROWS, "eval": EVAL_ROWS, "general": GENERAL_ROWS}
"""The parquet file of each set of rows."""

ROLES = ("system", "developer", "user", "assistant", "tool")
"""The roles of a conversation's turns."""


class ToolCall(TypedDict, total=False):
    """A call of a tool by the assistant."""

    name: Required[str]
    arguments: Required[Any]
    """A JSON value, an object as a rule; text only where the source has text that is not JSON."""
    id: str


class Message(TypedDict, total=False):
    """One turn of a conversation. A turn without the optional keys is plain: role and text."""

    role: Required[str]
    content: Required[str | None]
    """None only where the turn has something else to say, such as tool calls."""
    tool_calls: list[ToolCall]
    """Of the assistant."""
    tool_call_id: str
    """Of role tool: the call that it is the result of."""
    name: str
    """Of role tool: the tool's name; else the speaker's."""
    reasoning_content: str
    """What the assistant thought before it answered."""
    train: bool
    """False: an assistant turn that carries no loss."""


Tool = dict[str, Any]
"""A tool that the assistant may call, as in OpenAI's API:
{"type": "function", "function": {"name", "description", "parameters": JSON schema}}."""
