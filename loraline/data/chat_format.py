"""How rows are put to a chat template: found by rendering small conversations with it.

Templates differ in what they read: content as text or as a list of parts; a tool call's arguments as an object or as
text; call ids of nine characters or any; reasoning as a key, as a part, inside the content, or not at all. They differ
in what they write, too: some begin an answer otherwise than their own prompt for one, or end only the last turn with an
end-of-sequence token. Nothing is known by a model's name: each template is asked.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat_markers import (
    closing_marker,
    common_end,
    common_start,
    is_reasoning_block,
    open_marker,
    opening_markers,
    split_reasoning,
)
from loraline.data.chat_template import ChatTemplate, TemplateMessage
from loraline.errors import DatasetError

Reasoning = Literal["key", "part", "content", "spliced", "none"]
"""Where a template reads an answer's reasoning: a key of the message, a part of its content, inside its content; or it
is spliced between the prompt that opens it and the answer; or the template cannot show it."""

# Texts of probes, which no template contains.
_ASKED, _SAID, _ASKED_NEXT, _THOUGHT = "kqasked", "kqsaid", "kqnext", "kqthought"
_PLAIN: list[TemplateMessage] = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _SAID}]


class ChatFormat:
    """A tokenizer's chat template for conversations with or without tools, and what was found out about it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tools: Sequence[Tool] | None) -> None:
        """Read the template. Of the tools the first is shown to a template that is asked something."""
        self.template = ChatTemplate(tokenizer, tools)
        self._tools = list(tools[:1]) if tools else None
        added = list(tokenizer.added_tokens_decoder.values())
        self._added = [token.content for token in added]
        self._special = [token.content for token in added if token.special]
        self._reasoning: dict[bool, Reasoning] = {}
        self._wants_parts = False
        self._wants_parts = self._lacks_text()

    # ---- what it writes

    @cached_property
    def opener(self) -> str:
        """What the prompt for an answer ends with and the template's own answers do not begin with: a reasoning block,
        open or closed; else empty."""
        prompt, answer = self._prompt_tail, self._plain_answer[0]
        if answer.startswith(prompt):
            return ""
        shared = _without_open_token(common_start(prompt, answer))
        opener = prompt[len(shared) :]
        return opener if is_reasoning_block(opener) else ""

    @cached_property
    def opened(self) -> str:
        """The marker of reasoning that the prompt for an answer leaves open, with white space after it; else empty."""
        return open_marker(self._prompt_tail)

    @cached_property
    def trailer(self) -> str:
        """What the template writes after the last turn of any conversation, and no model generates; else empty."""
        end = self._plain_answer[1]
        if self._try([_PLAIN[0]], True) == self._try([_PLAIN[0]], False):  # it always prompts for an answer
            shared = common_end(end, self._prompt_tail)
            return shared if end[: len(end) - len(shared)].rstrip().endswith(tuple(self._added)) else ""
        following = self._try([*_PLAIN, {"role": "user", "content": _ASKED_NEXT}], True)
        shared = _without_open_token(common_start(end, following.partition(_SAID)[2]))
        rest = end[len(shared) :]
        # An end-of-sequence token after the end of the turn, which is a token of its own.
        return rest if rest.strip() in self._special and shared.rstrip().endswith(tuple(self._added)) else ""

    @cached_property
    def _end_tokens(self) -> tuple[str, ...]:
        """Special tokens, and an ordinary added token that ends the template's answers."""
        end = self._plain_answer[1].removesuffix(self.trailer).rstrip()
        return (*self._special, *(token for token in self._added if end == token))

    def ends_turn(self, text: str) -> bool:
        """Whether a text ends with a token that ends a turn."""
        return text.endswith(self._end_tokens)

    def is_end(self, text: str) -> bool:
        """Whether a text is nothing but special tokens and white space."""
        return re.fullmatch("|".join([r"(?:\s", *map(re.escape, self._end_tokens)]) + ")*", text) is not None

    @cached_property
    def _prompt_tail(self) -> str:
        """What the template writes between a user's text and the answer that it prompts for."""
        return self._try([_PLAIN[0]], True).rpartition(_ASKED)[2]

    @cached_property
    def _plain_answer(self) -> tuple[str, str]:
        """What the template writes between a user's text and an answer's, and after it."""
        before, _, after = self._try(_PLAIN, False).rpartition(_SAID)
        return before.rpartition(_ASKED)[2], after

    # ---- what it reads

    def messages(self, messages: Sequence[Message]) -> list[TemplateMessage]:
        """The messages as the template reads them."""
        if self._is_plain and all(len(message) == 2 and message["role"] in _PLAIN_ROLES for message in messages):
            return [dict(message) for message in messages]
        ids = _CallIds(short=self._wants_short_ids) if any(_has_calls(one) for one in messages) else None
        return [self._message(message, ids) for message in messages]

    def _message(self, message: Message, ids: "_CallIds | None") -> TemplateMessage:
        made: TemplateMessage = {key: message[key] for key in ("role", "content") if key in message}
        if made["role"] == "developer" and not self._knows_developer:
            made["role"] = "system"
        if message["role"] == "assistant":
            calls = message.get("tool_calls")
            self._add_reasoning(made, message)
            if calls:
                assert ids is not None
                made["tool_calls"] = [self._call(call["name"], call["arguments"], ids.of(call)) for call in calls]
                made["content"] = made["content"] or self._empty_content
        elif message["role"] == "tool":
            made |= {key: message[key] for key in ("name",) if key in message}
            if ids is not None:
                made["tool_call_id"] = ids.answered(message)
        if self._wants_parts and isinstance(made["content"], str):
            made["content"] = [{"type": "text", "text": made["content"]}]
        return made

    def reasoning_of(self, message: Message) -> str:
        """A turn's reasoning, also where its content has it between the markers that the template knows."""
        if "reasoning_content" in message:
            return message["reasoning_content"]
        content = message["content"] or ""
        if message["role"] != "assistant" or not self._markers or not content.lstrip().startswith(tuple(self._markers)):
            return ""
        return split_reasoning(content)[0] or ""

    def _add_reasoning(self, made: TemplateMessage, message: Message) -> None:
        reasoning = self.reasoning_of(message)
        if not reasoning:
            return
        mode = self.reasoning("tool_calls" in message)
        if mode == "none" and "reasoning_content" not in message:
            return  # as it is, in the content
        if "reasoning_content" not in message:
            made["content"] = split_reasoning(message["content"] or "")[1]
        made.update(self._reasoned(mode, reasoning, made["content"]))

    def _reasoned(self, mode: Reasoning, reasoning: str, content: str | None) -> TemplateMessage:
        if mode == "part":
            said = [{"type": "text", "text": content}] if content else []
            return {"content": [{"type": "thinking", "thinking": reasoning}, *said]}
        if mode == "content":
            marker = self._markers[0]
            line = "\n" if marker.startswith("<") else ""
            return {"content": f"{marker}{line}{reasoning}{line}{closing_marker(marker)}{2 * line}{content or ''}"}
        return {"reasoning_content": reasoning} if mode == "key" else {}

    def reasoning(self, calls: bool) -> Reasoning:
        """Where the template reads the reasoning of an answer, or of one that calls tools."""
        if calls not in self._reasoning:
            self._reasoning[calls] = self._find_reasoning(calls)
        return self._reasoning[calls]

    def _find_reasoning(self, calls: bool) -> Reasoning:
        prompt = self._try([_PLAIN[0]], True)
        if any(prompt.rstrip().endswith(closing_marker(marker)) for marker in self._markers):
            return "none"  # reasoning is over before the answer begins
        modes: list[Reasoning] = ["key", "part", *(["content"] if self._markers else [])]  # type: ignore[list-item]
        for mode in modes:
            said = self._empty_content if calls else _SAID
            answer: TemplateMessage = {"role": "assistant", "content": said, **self._reasoned(mode, _THOUGHT, said)}
            if calls:
                answer["tool_calls"] = [self._call("kqtool", {}, "kqcall001")]
            whole = self._try([_PLAIN[0], answer], False)
            thought = whole.removeprefix(prompt).partition(_THOUGHT)
            is_list = "'thinking'" in thought[0] or '"thinking"' in thought[0]  # written as it is
            if prompt and whole.startswith(prompt) and thought[1] and (said or "") in thought[2] and not is_list:
                return mode
        return "spliced" if self.opened else "none"

    @cached_property
    def _markers(self) -> list[str]:
        return opening_markers(self.template.text)

    @cached_property
    def _is_plain(self) -> bool:
        return not self._wants_parts and not self._markers

    def _lacks_text(self) -> bool:
        """Whether the template loses content that is text, and not content that is a list of parts."""
        as_text = self._try([_PLAIN[0]], True)
        if _ASKED in as_text:
            return False
        return _ASKED in self._try([{"role": "user", "content": [{"type": "text", "text": _ASKED}]}], True)

    @cached_property
    def _knows_developer(self) -> bool:
        return _SAID in self._try([{"role": "developer", "content": _SAID}, _PLAIN[0]], True)

    @cached_property
    def _wants_short_ids(self) -> bool:
        """Whether call ids must have nine characters (Mistral)."""
        return not self._called("call_kq1234567890") and bool(self._called("kqcall001"))

    @cached_property
    def _wants_text_arguments(self) -> bool:
        return "kqvalue" not in self._called("kqcall001", as_text=False) and "kqvalue" in self._called(
            "kqcall001", as_text=True
        )

    @cached_property
    def _empty_content(self) -> str | None:
        """What stands for the content of a turn that only calls tools: nothing, or empty text where it must be."""
        return None if len(self._called("kqcall001", content=None)) >= len(self._called("kqcall001")) > 0 else ""

    def _called(self, call_id: str, as_text: bool | None = None, content: str | None = "") -> str:
        """Render a call of a tool and its result; "" where the template refuses."""
        as_text = self._wants_text_arguments if as_text is None else as_text
        call = _openai_call("kqtool", {"kqkey": "kqvalue"}, call_id, as_text)
        answer: TemplateMessage = {"role": "assistant", "content": content, "tool_calls": [call]}
        result: TemplateMessage = {"role": "tool", "content": "kqresult", "tool_call_id": call_id, "name": "kqtool"}
        rendered = self._try([_PLAIN[0], answer, result], True)
        return rendered or self._try([_PLAIN[0], answer], False)

    def _call(self, name: str, arguments: Any, call_id: str) -> dict[str, Any]:
        return _openai_call(name, arguments, call_id, self._wants_text_arguments)

    def _try(self, messages: list[TemplateMessage], generation_prompt: bool) -> str:
        """Render a probe; "" where the template refuses it."""
        if self._wants_parts:
            messages = [_in_parts(message) for message in messages]
        try:
            return self.template.render(messages, self._tools, generation_prompt)
        except DatasetError:
            return ""


_PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_formats: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[Any, dict[bool, ChatFormat]]] = WeakKeyDictionary()


def chat_format(tokenizer: PreTrainedTokenizerBase, tools: Sequence[Tool] | None = None) -> ChatFormat:
    """The chat format of a tokenizer for conversations with or without tools; found out once."""
    template, formats = _formats.get(tokenizer, (None, {}))
    if template != (tokenizer.chat_template, len(tokenizer)):
        formats = {}
        _formats[tokenizer] = (tokenizer.chat_template, len(tokenizer)), formats
    if bool(tools) not in formats:
        formats[bool(tools)] = ChatFormat(tokenizer, tools)
    return formats[bool(tools)]


class _CallIds:
    """Ids of tool calls: as the row has them, or made where it has none or the template wants others."""

    def __init__(self, short: bool) -> None:
        self._short = short
        self._made: dict[str, str] = {}
        self._unanswered: list[str] = []
        self._calls = 0

    def of(self, call: Any) -> str:
        """The id of the next call."""
        self._calls += 1
        given = call.get("id", "")
        fits = given and (not self._short or (len(given) == 9 and given.isalnum()))
        made = given if fits else f"call{self._calls:05}"
        self._made[given] = made
        self._unanswered.append(made)
        return str(made)

    def answered(self, result: Message) -> str:
        """The id of the call that a tool's message answers: the one that it names, else the first without an answer."""
        named = self._made.get(result.get("tool_call_id", ""), "") if result.get("tool_call_id") else ""
        answered = named or (self._unanswered[0] if self._unanswered else result.get("tool_call_id", ""))
        if answered in self._unanswered:
            self._unanswered.remove(answered)
        return answered


def _openai_call(name: str, arguments: Any, call_id: str, as_text: bool) -> dict[str, Any]:
    given = json.dumps(arguments, ensure_ascii=False) if as_text and not isinstance(arguments, str) else arguments
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": given}}


def _has_calls(message: Message) -> bool:
    return "tool_calls" in message or message["role"] == "tool"


def _in_parts(message: TemplateMessage) -> TemplateMessage:
    if not isinstance(message.get("content"), str):
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _without_open_token(text: str) -> str:
    """A text without the beginning of a token, such as `<|STA`, at its end."""
    for opening, closing in (("<", ">"), ("[", "]")):
        start = text.rfind(opening)
        if start >= 0 and closing not in text[start:]:
            text = text[:start]
    return text
