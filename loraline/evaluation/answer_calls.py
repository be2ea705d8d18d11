"""Find the tool calls in a model's answer, whatever format its chat template has for them.

Formats differ in what stands around a call; inside there is JSON, with the name in it or before it, or tags with an
argument each, or a call as in Python. Names before the JSON are found because the tools' names are known.
"""

import ast
import json
import re
from collections.abc import Iterator, Set
from typing import Any

from loraline.artifacts.dataset_files import ToolCall

_NAMES = ("name", "tool_name", "function")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_TAGGED_CALL = re.compile(r"<tool_call>|<function=")
_TAGGED_ARGUMENT = re.compile(
    r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>|<parameter=([^>]+)>(.*?)</parameter>", re.DOTALL
)
_DECODER = json.JSONDecoder()


def find_calls(text: str, names: Set[str]) -> list[ToolCall]:
    """The tool calls in a text, in order.

    Args:
        text: an answer, its special tokens included.
        names: of the tools that may be called.
    """
    return _tagged_calls(text, names) or _json_calls(text, names) or _python_calls(text, names)


def written_calls(calls: list[ToolCall]) -> str:
    """Calls as lines `name(arguments)`, the arguments as JSON with sorted keys: equal calls are equal texts."""
    return "\n".join(
        f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False, sort_keys=True)})" for call in calls
    )


def _json_calls(text: str, names: Set[str]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    done = 0
    for start, end, value in _json_values(text):
        for item in value if isinstance(value, list) else [value]:
            call = _named_call(item) or _call_after(text[done:start], item, names)
            if call:
                calls.append(call)
                done = end
    return calls


def _json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """JSON objects and arrays in a text, the outermost, with start and end."""
    position = 0
    while match := re.compile(r"[{\[]").search(text, position):
        try:
            value, position = _DECODER.raw_decode(text, match.start())
        except ValueError:
            position = match.start() + 1
        else:
            yield match.start(), position, value


def _named_call(item: Any) -> ToolCall | None:
    """A call that is an object with the name and the arguments."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        return _named_call(item["function"])
    name = next((item[key] for key in _NAMES if isinstance(item.get(key), str)), None)
    arguments = next((item[key] for key in _ARGUMENTS if key in item), None)
    if name is None or arguments is None:
        return None
    return {"name": name, "arguments": _parsed(arguments)}


def _call_after(before: str, arguments: Any, names: Set[str]) -> ToolCall | None:
    """A call that is its arguments alone, after text with the name of a tool."""
    found = [(match.end(), len(name), name) for name in names for match in _word(name).finditer(before)]
    if not found or not isinstance(arguments, dict):
        return None
    return {"name": max(found)[2], "arguments": arguments}


def _tagged_calls(text: str, names: Set[str]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for part in _TAGGED_CALL.split(text)[1:]:
        found = [name for name in names if _word(name).match(part.lstrip())]
        if found:
            pairs = [(key or other, value or text_) for key, value, other, text_ in _TAGGED_ARGUMENT.findall(part)]
            arguments = {key.strip(): _parsed(value.strip()) for key, value in pairs}
            calls.append({"name": max(found, key=len), "arguments": arguments or _only_json(part)})
    return calls


def _only_json(part: str) -> Any:
    """The arguments of a call whose tag has JSON in it; none where there is none."""
    return next((value for _, _, value in _json_values(part)), {})


def _python_calls(text: str, names: Set[str]) -> list[ToolCall]:
    """Calls as in Python: `[weather(city="Graz")]`, with or without brackets."""
    start = min((match.start() for name in names for match in _word(name).finditer(text)), default=-1)
    if start < 0:
        return []
    body = text[start:].split("<|", maxsplit=1)[0].strip().rstrip("]").rstrip()
    try:
        parsed = ast.parse(f"[{body}]", mode="eval").body
        nodes = parsed.elts if isinstance(parsed, ast.List) else []
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError):
        return []


def _python_call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError(ast.dump(node))
    arguments = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    return {"name": ast.unparse(node.func), "arguments": arguments}


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def _parsed(value: Any) -> Any:
    """A value that may be JSON in text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
