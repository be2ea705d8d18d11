"""Conversations of message trees (OpenAssistant): one JSON object a tree, or one row a message with its parent's id.

Of several replies of the assistant the best ranked is taken; every reply of the user to it begins a conversation of its
own. Turns that several conversations of a tree share carry loss in the first alone. All conversations of a tree go to
the same split.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.data.formats.row_content import RowContent
from loraline.data.formats.turns import ROLES
from loraline.data.reading.records import ReadResult, SourceRecord
from loraline.data.validation.fields import FieldReader, shorten

_Node = dict[str, Any]
_UNRANKED = 1 << 30


def read_tree(fields: FieldReader) -> list[RowContent]:
    """The conversations of a tree."""
    root = fields.value(fields.column("prompt") or "prompt")
    if not isinstance(root, dict):
        fields.add_problem("prompt", "wrong type", f"must be the first message of a tree, is {shorten(root)}")
        return []
    fields.group = str(fields.value("message_tree_id") or root.get("message_id") or root.get("text"))
    paths = _paths(fields, root)
    if not paths and not fields.problems:
        fields.leave_out("a tree of messages without an answer of the assistant")
    trained: set[int] = set()
    return [RowContent(_messages(fields, path, trained)) for path in paths]


def _paths(fields: FieldReader, prompt: _Node) -> list[list[_Node]]:
    """The conversations that begin with a message of the user, each as its messages."""
    answers = _replies(fields, prompt, "assistant")
    if not answers:
        return []
    best = min(answers, key=lambda node: _UNRANKED if node.get("rank") is None else node["rank"])
    if len(answers) > 1:
        fields.note("replies of the assistant that another was ranked above are left out")
    following = [path for node in _replies(fields, best, "user") for path in _paths(fields, node)]
    return [[prompt, best, *path] for path in following or [[]]]


def _replies(fields: FieldReader, node: _Node, role: str) -> list[_Node]:
    replies = [one for one in node.get("replies") or [] if isinstance(one, dict)]
    kept = [one for one in replies if not one.get("deleted") and ROLES.get(str(one.get("role"))) == role]
    if len(kept) < len(replies):
        fields.note("messages of a tree that were deleted, or that no other role answers, are left out")
    return kept


def _messages(fields: FieldReader, path: list[_Node], trained: set[int]) -> list[Message]:
    messages: list[Message] = []
    for number, node in enumerate(path):
        role = "user" if number % 2 == 0 else "assistant"
        message: Message = {"role": role, "content": fields.check_text(node.get("text"), f"{role}[{number}].text")}
        if role == "assistant" and id(node) in trained:
            message["train"] = False
        trained.add(id(node))
        messages.append(message)
    return messages


def gather_trees(results: Iterator[ReadResult]) -> Iterator[ReadResult]:
    """Make trees of rows that are one message each. All of them are held in memory."""
    nodes: dict[Any, _Node] = {}
    records: dict[Any, SourceRecord] = {}
    for result in results:
        if not isinstance(result, SourceRecord):
            yield result
            continue
        key = result.fields.get("message_id")
        nodes[key], records[key] = {**result.fields, "replies": []}, result
    for key, node in nodes.items():
        parent = node.get("parent_id")
        if parent in nodes and parent != key:
            nodes[parent]["replies"].append(node)
    for key, node in nodes.items():
        # A message whose parent is not there begins a conversation only where it is the user's.
        if node.get("parent_id") not in nodes and ROLES.get(str(node.get("role"))) == "user":
            yield replace(records[key], fields={"message_tree_id": node.get("message_tree_id"), "prompt": node})
