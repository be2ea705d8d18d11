"""Read conversations: lists of turns as in OpenAI messages ({role, content}) or ShareGPT ({from, value})."""

from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.data.formats.json_values import parsed
from loraline.data.formats.tool_calls import BAD_CALL, read_calls, split_call_text
from loraline.data.formats.transcripts import parse_transcript
from loraline.data.formats.turn_content import read_parts, refuse_media
from loraline.data.validation.fields import EMPTY_ANSWER, EMPTY_FIELD, FieldReader, shorten

_ROLES = {
    **dict.fromkeys(("system", "developer", "user", "assistant", "tool")),
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "model"), "assistant"),
    **dict.fromkeys(("function", "observation", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
ROLES = {name: role or name for name, role in _ROLES.items()}
"""The role of a turn by its name in a source; `call`: an assistant turn that is a tool call alone."""
_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text", "message")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_LOSS_KEYS = ("train", "training", "weight", "loss_weight")
_KNOWN_KEYS = {*_ROLE_KEYS, *_CONTENT_KEYS, *_REASONING_KEYS, *_LOSS_KEYS, "tool_calls", "function_call", "name"}
_KNOWN_KEYS |= {"tool_call_id", "images", "image", "videos", "audios", "audio"}
_ALTERNATING = ["user", "assistant"] * 100
# The roles that may follow one; "" is the beginning.
_FOLLOWING = {
    "": {"system", "user"},
    "system": {"user", "assistant"},
    "user": {"assistant", "system"},
    "assistant": {"user", "tool", "system"},
    "tool": {"tool", "assistant", "user"},
}


def read_conversation(fields: FieldReader, column: str) -> list[Message]:
    """Read a conversation, after the system prompt that the row's `system` column gives.

    Turns before the first of the user and after the last of the assistant are left out, which is noted.

    Args:
        fields: the row's fields. It collects the problems of each turn and of their order.
        column: the conversation's column, by its name in `loraline.data.config.Columns`.
    """
    name = fields.column(column)
    return [*fields.system_messages(), *read_turns(fields, fields.value(name), name)]


def read_turns(fields: FieldReader, value: Any, name: str) -> list[Message]:
    """Read the turns in a field: a list of objects, or of texts by user and assistant in turn; or JSON text of it."""
    turns = _parse_turns(fields, value, name)
    if turns and all(isinstance(turn, str) for turn in turns):  # LIMA
        turns = [
            {"role": "user" if number % 2 == 0 else "assistant", "content": one} for number, one in enumerate(turns)
        ]
    if turns and all(isinstance(turn, dict) and "output" in turn and "input" in turn for turn in turns):  # XTuner
        turns = [one for turn in turns for one in _exchange(turn)]
    return [read_turn(fields, turn, f"{name}[{number}]") for number, turn in enumerate(turns)]


def _exchange(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """What the user and the assistant say in a turn of both, with a system prompt where it has one."""
    roles = (("system", "system"), ("user", "input"), ("assistant", "output"))
    return [{"role": role, "content": turn[key]} for role, key in roles if turn.get(key) or role == "assistant"]


def finish_conversation(fields: FieldReader, messages: list[Message], name: str) -> list[Message]:
    """Check the order of a conversation's turns, and cut off what nothing is learned from."""
    if fields.problems:
        return messages
    roles = [message["role"] for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if spoken and len(spoken) % 2 == 0 and spoken == _ALTERNATING[: len(spoken)] and max(map(len, messages)) == 2:
        return messages  # as nearly all are
    if "assistant" not in roles:
        fields.add_problem(
            name, "no assistant turn", f"no assistant turn to learn from; the roles are {shorten(roles)}"
        )
        return messages
    messages = _cut_ends(fields, messages)
    _check_order(fields, [message["role"] for message in messages], name)
    answers = [message for message in messages if message["role"] == "assistant"]
    if answers and not any(message.get("train", True) for message in answers):
        fields.leave_out("no turn is trained on (weight 0 or train: false on all of them)")
    return messages


def _parse_turns(fields: FieldReader, value: Any, column: str) -> list[Any]:
    if value is None:
        fields.add_problem(column, "missing field", f"missing or null; the row has {fields.names}")
        return []
    if isinstance(value, str):
        text, value = value, parsed(value)
        if isinstance(value, str):
            value = parse_transcript(text)
            if not value:
                reason = f"must be a list of turns, is text that is neither JSON nor a transcript: {shorten(text)}"
                fields.add_problem(column, "invalid JSON", reason)
                return []
    if not isinstance(value, list):
        reason = f"must be a list of turns, is {type(value).__name__}: {shorten(value)}"
        fields.add_problem(column, "wrong type", reason)
        return []
    if not value:
        fields.add_problem(column, EMPTY_FIELD, "no turns")
    return value


def read_turn(fields: FieldReader, turn: Any, location: str) -> Message:
    """Read a turn; one with a problem gives an empty one."""
    if isinstance(turn, dict) and len(turn) == 2:  # role and text alone, as nearly all turns
        role_key, content_key = ("role", "content") if "role" in turn else ("from", "value")
        name, content = turn.get(role_key), turn.get(content_key)
        if isinstance(content, str) and isinstance(name, str) and (plain := ROLES.get(name)) and plain != "call":
            empty = EMPTY_ANSWER if plain == "assistant" else EMPTY_FIELD
            return {"role": plain, "content": fields.check_text(content, f"{location}.{content_key}", empty=empty)}
    if not isinstance(turn, dict):
        reason = f"a turn must be an object, is {type(turn).__name__}: {shorten(turn)}"
        fields.add_problem(location, "wrong type", reason)
        return {"role": "", "content": ""}
    role_key = next((key for key in _ROLE_KEYS if turn.get(key) is not None), "role")
    content_key = next((key for key in _CONTENT_KEYS if turn.get(key) is not None), "")
    content_key = content_key or ("value" if "value" in turn else "content")
    role = _role(fields, turn.get(role_key), f"{location}.{role_key}")
    return _read_rich_turn(fields, turn, role, turn.get(content_key), f"{location}.{content_key}")


def _role(fields: FieldReader, name: Any, location: str) -> str:
    role = ROLES.get(name) if isinstance(name, str) else None
    role = role or (ROLES.get(name.strip().lower()) if isinstance(name, str) else None)
    if role is None:
        fields.add_problem(location, "unknown role", f"unknown role {shorten(name)}; known are {', '.join(ROLES)}")
    return role or ""


def _read_rich_turn(fields: FieldReader, turn: dict[str, Any], role: str, content: Any, location: str) -> Message:
    """Read a turn that has more than a role and a text."""
    place = location.rpartition(".")[0]
    refuse_media(fields, turn, place)
    parts = read_parts(fields, content, location) if isinstance(content, list) else None
    calls = turn.get("tool_calls") or turn.get("function_call") or (parts and parts.calls)
    if role == "call":
        role, content, calls = "assistant", *_split_call(fields, content, location)
    message: Message = {"role": role, "content": ""}
    if calls and role == "assistant":
        message["tool_calls"] = read_calls(fields, calls, f"{place}.tool_calls")
    reasoning = next((turn[key] for key in _REASONING_KEYS if turn.get(key)), None) or (parts and parts.reasoning)
    if reasoning and role == "assistant":
        message["reasoning_content"] = fields.check_text(reasoning, f"{place}.reasoning_content")
    optional = bool(calls) or role == "tool"
    empty = EMPTY_ANSWER if role == "assistant" else EMPTY_FIELD
    text = parts.text if parts else content
    if role == "tool" and isinstance(text, dict | list | int | float):
        text = fields.as_json(text)
    said = fields.check_text(text, location, required=not optional, empty=empty)
    message["content"] = None if calls and not said else said
    for key in ("name", "tool_call_id"):
        if isinstance(turn.get(key), str) and turn[key]:
            message[key] = turn[key]
    if role == "assistant" and not _carries_loss(fields, turn, place):
        message["train"] = False
    unread = [str(key) for key, value in turn.items() if key not in _KNOWN_KEYS and value not in (None, "", [], {})]
    if unread:
        fields.note(f"keys of turns that are not read: {', '.join(sorted(unread))}")
    return message


def _split_call(fields: FieldReader, content: Any, location: str) -> tuple[str, Any]:
    """What a turn says before its call, and the call."""
    if not isinstance(content, str):
        return "", content
    said, call = split_call_text(content)
    if call is None:
        fields.add_problem(
            location, BAD_CALL, f"a tool call must be JSON with name and arguments, is {shorten(content)}"
        )
    return said, call


def _carries_loss(fields: FieldReader, turn: dict[str, Any], location: str) -> bool:
    carries = True
    for key in _LOSS_KEYS:
        value = turn.get(key)
        if value is None:
            continue
        if value not in (0, 1):  # True and False among them
            reason = f"must be 0 or 1: a turn is trained on or not; is {shorten(value)}"
            fields.add_problem(f"{location}.{key}", "weight of a turn", reason)
        carries = carries and bool(value)
    return carries


def _cut_ends(fields: FieldReader, messages: list[Message]) -> list[Message]:
    """Without the assistant's turns before any of the user, and the turns after the last of the assistant."""
    first = next((n for n, one in enumerate(messages) if one["role"] not in ("system", "developer")), 0)
    start = first
    while start < len(messages) and messages[start]["role"] == "assistant":
        start += 1
    end = max(number for number, message in enumerate(messages) if message["role"] == "assistant") + 1
    if start > first and start < end:
        fields.note("the assistant's turns before the first of the user are left out")
        messages, end = [*messages[:first], *messages[start:]], end - (start - first)
    if end < len(messages):
        fields.note("the turns after the last of the assistant are left out")
    return messages[:end]


def _check_order(fields: FieldReader, roles: list[str], column: str) -> None:
    previous = ""
    for number, name in enumerate(roles):
        role = "system" if name == "developer" else name
        if role not in _FOLLOWING[previous]:
            expected = " or ".join(sorted(_FOLLOWING[previous]))
            reason = f"turn {number} has the role {role}, expected {expected}; the roles are {shorten(roles)}"
            fields.add_problem(column, "roles out of order", reason)
            return
        previous = role
    if not any(role == "user" for role in roles):
        fields.add_problem(column, "roles out of order", f"no turn of the user; the roles are {shorten(roles)}")
