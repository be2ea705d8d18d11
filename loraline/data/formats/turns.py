"""Read conversations: lists of turns as in OpenAI messages ({role, content}) or ShareGPT ({from, value})."""

import json
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.data.validation.fields import EMPTY_ANSWER, EMPTY_FIELD, FieldReader, shorten

_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


def read_conversation(fields: FieldReader, column: str) -> list[Message]:
    """Read a conversation, after the system prompt that the row's `system` column gives; both keys are accepted.

    Args:
        fields: the row's fields. It collects the problems of each turn and of their order.
        column: the conversation's column, by its name in `loraline.data.config.Columns`.
    """
    name = fields.column(column)
    turns = _parse_turns(fields, name)
    messages = [_read_turn(fields, turn, f"{name}[{number}]") for number, turn in enumerate(turns)]
    messages = [*fields.system_messages(), *messages]
    if not fields.problems:
        _check_order(fields, [message["role"] for message in messages], name)
    return messages


def _parse_turns(fields: FieldReader, column: str) -> list[Any]:
    value = fields.value(column)
    if value is None:
        fields.add_problem(column, "missing field", f"missing or null; the row has {fields.names}")
        return []
    if isinstance(value, str):  # CSV has no other type
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            fields.add_problem(column, "invalid JSON", f"must be a list of turns, is text that is not JSON: {error}")
            return []
    if not isinstance(value, list):
        reason = f"must be a list of turns, is {type(value).__name__}: {shorten(value)}"
        fields.add_problem(column, "wrong type", reason)
        return []
    if not value:
        fields.add_problem(column, EMPTY_FIELD, "no turns")
    return value


def _read_turn(fields: FieldReader, turn: Any, location: str) -> Message:
    if not isinstance(turn, dict):
        reason = f"a turn must be an object, is {type(turn).__name__}: {shorten(turn)}"
        fields.add_problem(location, "wrong type", reason)
        return {"role": "", "content": ""}
    role_key, content_key = ("from", "value") if turn.get("from") is not None else ("role", "content")
    role = turn.get(role_key)
    if not isinstance(role, str) or role not in _ROLES:
        reason = f"unknown role {shorten(role)}; known are {', '.join(_ROLES)}"
        fields.add_problem(f"{location}.{role_key}", "unknown role", reason)
        role = ""
    role = _ROLES.get(role, "")
    empty = EMPTY_ANSWER if role == "assistant" else EMPTY_FIELD
    return {"role": role, "content": fields.check_text(turn.get(content_key), f"{location}.{content_key}", empty=empty)}


def _check_order(fields: FieldReader, roles: list[str], column: str) -> None:
    """An optional system turn, then user and assistant in turn, the assistant last."""
    if "assistant" not in roles:
        reason = f"no assistant turn to learn from; the roles are {roles}"
        fields.add_problem(column, "no assistant turn", reason)
        return
    first = 1 if roles[0] == "system" else 0
    for number in range(first, len(roles)):
        expected = "user" if (number - first) % 2 == 0 else "assistant"
        if roles[number] != expected:
            reason = f"turn {number} has the role {roles[number]}, expected {expected}; the roles are {shorten(roles)}"
            fields.add_problem(column, "roles out of order", reason)
            return
    if roles[-1] != "assistant":
        fields.add_problem(column, "roles out of order", "the last turn must be the assistant's, is the user's")
