"""Read tools and their calls: as in OpenAI's API, in ShareGPT's turns, and as text."""

import json
import re
from typing import Any

from loraline.artifacts.dataset_files import Tool, ToolCall
from loraline.data.formats.json_values import parsed, without_nulls
from loraline.data.validation.fields import FieldReader, shorten

BAD_CALL = "tool call"
# {"name": "f", "arguments": '{"x": 1}'}: JSON but for the quotes around the arguments (glaive-function-calling-v2)
_QUOTED_ARGUMENTS = re.compile(r"""("arguments"\s*:\s*)'(.*)'(\s*})""", re.DOTALL)


def read_tools(fields: FieldReader) -> list[Tool] | None:
    """The tools of the row's `tools` column: a list, or JSON text of one; each with or without OpenAI's wrapper."""
    column = fields.column("tools")
    value = parsed(fields.value(column)) if column else None
    if value is None or value in ("", [], {}):
        return None
    entries = [parsed(one) for one in (value if isinstance(value, list) else [value])]
    tools = []
    for number, entry in enumerate(entries):
        function = entry.get("function", entry) if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            reason = f"a tool must be an object with a name, is {shorten(entry)}"
            fields.add_problem(f"{column}[{number}]", "tool", reason)
            return None
        function = without_nulls(function) if fields.has_filled_nulls else function
        tools.append({"type": "function", "function": function})
    return tools


def read_calls(fields: FieldReader, value: Any, location: str) -> list[ToolCall]:
    """The calls of an assistant turn: a list, one call, or JSON text of these."""
    value = parsed(value)
    calls = [
        _read_call(parsed(one), fields.has_filled_nulls) for one in (value if isinstance(value, list) else [value])
    ]
    if not calls or None in calls:
        reason = f"a tool call must be an object with name and arguments, is {shorten(value)}"
        fields.add_problem(location, BAD_CALL, reason)
    return [call for call in calls if call is not None]


def _read_call(value: Any, has_filled_nulls: bool) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    function = value.get("function") if isinstance(value.get("function"), dict) else value
    assert isinstance(function, dict)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        return None
    arguments: Any = next((function[key] for key in ("arguments", "parameters") if function.get(key) is not None), {})
    arguments = parsed(arguments)
    call: ToolCall = {"name": name, "arguments": without_nulls(arguments) if has_filled_nulls else arguments}
    if isinstance(value.get("id"), str) and value["id"]:
        call["id"] = value["id"]
    return call


def split_call_text(text: str) -> tuple[str, Any]:
    """What a turn says before its call, and the call, of text such as `Let me look. {"name": ..., "arguments": ...}`.

    The call is None where there is none.
    """
    start = min((place for mark in "{[" if (place := text.find(mark)) >= 0), default=-1)
    if start < 0:
        return text, None
    tail = text[start:].strip()
    for candidate in (tail, _QUOTED_ARGUMENTS.sub(lambda m: m[1] + json.dumps(m[2]) + m[3], tail)):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        return text[:start].strip(), value
    return text, None
