"""Read the content of a turn that is a list of parts, and refuse what no text model reads."""

from dataclasses import dataclass, field
from typing import Any

from loraline.data.validation.fields import FieldReader, shorten

MEDIA = "image, audio or video"
"""Kind of problem of a row that has any."""
MEDIA_COLUMNS = frozenset({"image", "images", "video", "videos", "audio", "audios", "image_url", "image_path"})
_TEXT_KEYS = ("text", "value", "content", "thinking", "reasoning")


@dataclass
class Parts:
    """What the parts of a turn's content say."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text parts, as servers join them."""
        return "\n".join(self.texts)

    @property
    def reasoning(self) -> str:
        """The parts of reasoning."""
        return "\n".join(self.thoughts)


def read_parts(fields: FieldReader, content: list[Any], location: str) -> Parts:
    """Read parts such as {"type": "text", "text": ...}; others than text, reasoning and tool calls are problems."""
    parts = Parts()
    for number, part in enumerate(content):
        place = f"{location}[{number}]"
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        value = part if isinstance(part, str) else None
        if isinstance(part, dict):
            value = next((part[key] for key in _TEXT_KEYS if part.get(key) is not None), None)
        if any(medium in str(kind) for medium in ("image", "audio", "video", "file")):
            _add_media_problem(fields, place, part)
        elif kind in ("tool_call", "function_call"):
            parts.calls.append(value if value is not None else part)
        elif kind not in ("text", "reasoning", "thinking") or not isinstance(value, str):
            fields.add_problem(place, "unknown part", f"neither text, reasoning nor a tool call: {shorten(part)}")
        elif isinstance(part, dict) and part.get("train") is False:
            fields.add_problem(place, "weight of a part", "a turn is trained on whole or not at all; split the turn")
        else:
            (parts.texts if kind == "text" else parts.thoughts).append(value)
    if len(parts.texts) > 1:
        fields.note("text parts of a turn are joined by line breaks")
    return parts


def refuse_media(fields: FieldReader, values: dict[str, Any], location: str = "") -> None:
    """Add a problem where a row, or a turn, has images, audio or video."""
    for key in MEDIA_COLUMNS & values.keys():
        if values[key] not in (None, "", [], {}):
            _add_media_problem(fields, f"{location}.{key}" if location else key, values[key])


def _add_media_problem(fields: FieldReader, location: str, value: Any) -> None:
    reason = f"only text is trained on, this is {shorten(value)}; data.max_bad_fraction drops such rows"
    fields.add_problem(location, MEDIA, reason)
