"""Conversations that are written as one text with a tag before each turn: `USER: ... ASSISTANT: ...`."""

import json
import re
from typing import Any

from loraline.artifacts.dataset_files import Tool

# A tag stands at the beginning of a line; after ### also within one (openassistant-guanaco).
_TAG = re.compile(
    r"(?:(?:^|\n)[ \t]*(?:#{1,3} ?)?|### ?)"
    r"(?P<role>SYSTEM|System|USER|User|HUMAN|Human|ASSISTANT|Assistant|FUNCTION RESPONSE|Function response)"
    r"[ \t]*:[ \t]*"
)
_END_MARKS = re.compile(r"\s*<\|(?:endoftext|im_end|eot_id)\|>\s*$")
_CALL = "<functioncall>"
_ACCESS = re.compile(r",?\s*with access to the following functions\b.*", re.DOTALL | re.IGNORECASE)


def parse_transcript(text: str) -> list[dict[str, Any]]:
    """The turns of a transcript as {from, value}; empty where the text does not begin with a tag."""
    tags = list(_TAG.finditer(text))
    if not tags or text[: tags[0].start()].strip():
        return []
    ends = [*(tag.start() for tag in tags[1:]), len(text)]
    turns = []
    for tag, end in zip(tags, ends, strict=True):
        role, content = tag["role"].lower(), _END_MARKS.sub("", text[tag.end() : end].strip())
        if role == "function response":
            role = "observation"
        elif role == "assistant" and content.startswith(_CALL):
            role, content = "function_call", content.removeprefix(_CALL).strip()
        turns.append({"from": role, "value": content})
    return turns


def is_transcript(text: str) -> bool:
    """Whether a text begins as a transcript does and has turns of both sides."""
    return bool(_TAG.match(text)) and {"assistant"} < {turn["from"] for turn in parse_transcript(text)}


def tools_in_system_text(text: str) -> tuple[str, list[Tool]]:
    """What a system prompt says beside the tools that it defines as JSON objects, and these (glaive's text format)."""
    text = re.sub(r"^\s*SYSTEM\s*:\s*", "", text)
    decoder, place, tools, first = json.JSONDecoder(), 0, [], len(text)
    while (place := text.find("{", place)) >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except ValueError:
            place += 1
            continue
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            tools.append({"type": "function", "function": value})
            first = min(first, place)
        place = end
    said = _ACCESS.sub(".", text[:first]).strip() if tools else text
    return re.sub(r"[,\s]*\bwith no access to external functions\b", "", said).strip(), tools
