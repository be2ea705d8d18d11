"""What a generated answer says: its tokens decoded, without reasoning and markers, and its tool calls as calls.

A reference goes through the same functions as an answer, from the tokens that training has for it, so that a model that
says exactly what it was taught is right by every metric.
"""

import re
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from loraline.data.chat_format import chat_format
from loraline.data.chat_markers import split_reasoning
from loraline.data.rows import Row
from loraline.evaluation.answer_calls import find_calls, written_calls

# gpt-oss: the channels `analysis` (reasoning), `commentary` (tool calls) and `final`.
_CHANNEL = re.compile(
    r"[^<>]*<\|channel\|>(?P<name>\w+)[^<>]*<\|message\|>.*?(?=<\|(?:end|start|call|return)\|>|\Z)", re.DOTALL
)


def answer_text(tokenizer: PreTrainedTokenizerBase, token_ids: list[int], opened: str = "") -> str:
    """Decode an answer without its reasoning and special tokens, white space stripped at both ends.

    Args:
        tokenizer: the model's.
        token_ids: the answer, up to its first stop token.
        opened: the marker of reasoning that the prompt leaves open, if it does.
    """
    raw = str(tokenizer.decode(token_ids, skip_special_tokens=False))
    said = _said(raw, opened)
    if said == raw:  # no reasoning
        return str(tokenizer.decode(token_ids, skip_special_tokens=True)).strip()
    return _without_special(tokenizer, said).strip()


def _said(raw: str, opened: str) -> str:
    """All but reasoning of a decoded answer."""
    if "<|channel|>" in raw and "<|message|>" in raw:
        kept = [match[0] for match in _CHANNEL.finditer(raw) if match["name"] != "analysis"]
        return "".join(part.rpartition("<|message|>")[2] if " to=" not in part else part for part in kept)
    reasoning, rest = split_reasoning(raw, opened)
    return raw if reasoning is None else rest


def _without_special(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, "")
    return text


@dataclass(frozen=True)
class Reference:
    """The answer that a row has, as an answer of the model is read."""

    text: str
    """What the model should say; tool calls as `written_calls` writes them."""
    tools: frozenset[str]
    """Names of the tools that the row knows; empty where answers are compared as text."""
    opened: str
    """The marker of reasoning that the prompt leaves open, if it does."""

    def read(self, tokenizer: PreTrainedTokenizerBase, token_ids: list[int]) -> str:
        """What an answer says, to be compared with `text`."""
        if self.tools:
            raw = _said(str(tokenizer.decode(token_ids, skip_special_tokens=False)), self.opened)
            if calls := find_calls(raw, self.tools):
                return written_calls(calls)
        return answer_text(tokenizer, token_ids, self.opened)


def read_reference(tokenizer: PreTrainedTokenizerBase, row: Row, token_ids: list[int]) -> Reference:
    """Read a conversation's last answer from its tokens, up to its stop token.

    Answers are compared as tool calls where the row's calls are found in its own tokens, and as text elsewhere.
    """
    opened = chat_format(tokenizer, row.tools).opened
    calls = [call for message in (row.messages or [])[-1:] for call in message.get("tool_calls", [])]
    names = {str(tool.get("function", tool).get("name", "")) for tool in row.tools or []} - {""}
    tools = frozenset(names | {call["name"] for call in calls}) if calls else frozenset()
    as_text = Reference("", frozenset(), opened)
    as_calls = Reference("", tools, opened)
    if tools:
        raw = _said(str(tokenizer.decode(token_ids, skip_special_tokens=False)), opened)
        if [call["name"] for call in find_calls(raw, tools)] == [call["name"] for call in calls]:
            return Reference(as_calls.read(tokenizer, token_ids), tools, opened)
    return Reference(as_text.read(tokenizer, token_ids), frozenset(), opened)
