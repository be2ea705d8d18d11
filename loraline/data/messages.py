"""What a conversation says: its text, for whatever searches or compares rows, and the turn that is evaluated."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from loraline.artifacts.dataset_files import Message, Tool

SYSTEM_ROLES = frozenset({"system", "developer"})


def message_text(message: Message) -> str:
    """All that a turn says: reasoning, content, and its tool calls as lines `name` and `argument: value`."""
    content = message["content"] or ""
    if len(message) == 2:  # role and content alone, as nearly all turns
        return content
    parts = [message.get("reasoning_content", ""), content]
    for call in message.get("tool_calls", ()):
        parts += [call["name"], *_lines(call["arguments"])]
    return "\n".join(part for part in parts if part)


def tools_text(tools: Sequence[Tool] | None) -> str:
    """The definitions of tools as lines `key: value`."""
    return "\n".join(_lines(tools)) if tools else ""


def map_message(change: Callable[[str], str], message: Message) -> Message:
    """Apply a function to every text of a turn, also inside the arguments of tool calls."""
    changed: Message = {**message, "content": change(message["content"]) if message["content"] else message["content"]}
    if "reasoning_content" in message:
        changed["reasoning_content"] = change(message["reasoning_content"])
    if "tool_calls" in message:
        changed["tool_calls"] = [
            {**call, "arguments": map_value(change, call["arguments"])} for call in message["tool_calls"]
        ]
    return changed


def map_value(change: Callable[[str], str], value: Any) -> Any:
    """Apply a function to every text in a JSON value, and to a number's digits where it changes them."""
    if isinstance(value, dict):
        return {key: map_value(change, item) for key, item in value.items()}
    if isinstance(value, list):
        return [map_value(change, item) for item in value]
    if isinstance(value, str):
        return change(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        changed = change(str(value))
        return value if changed == str(value) else changed
    return value


def last_answer(messages: Sequence[Message]) -> int | None:
    """Index of the last assistant turn that carries loss; None without one."""
    for number in range(len(messages) - 1, -1, -1):
        if messages[number]["role"] == "assistant" and messages[number].get("train", True):
            return number
    return None


def _lines(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _lines(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item, key)
    elif value is not None:
        yield f"{key}: {value}" if key else str(value)
