"""Render a conversation once, and find the text of each answer in it.

The text is the prompt of the last answer, as a server renders it, and what the template writes after it. An earlier
answer carries loss where its own prompt, as a server renders that, is the beginning of the same text, and where the
template still writes it as it wrote it when it was the last. Templates that rewrite earlier turns (some remove earlier
reasoning) leave the last answer alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat_format import ChatFormat
from loraline.data.chat_markers import closing_marker, common_end, common_start
from loraline.data.chat_template import TemplateMessage
from loraline.errors import DatasetError

Span = tuple[int, int]


@dataclass(frozen=True)
class RenderedRow:
    """A conversation as text."""

    text: str
    prompt_end: int
    """Where the prompt of the last answer ends."""
    spans: list[Span]
    """Character spans of the answers that carry loss, in order; the last begins at or after `prompt_end`."""
    is_ended: bool
    """Whether the text ends with a token that ends a turn."""
    silent: int
    """Answers to be trained on that carry no loss, because the template writes them otherwise in a longer
    conversation, or because nothing was asked before them."""


def render_prompt(format_: ChatFormat, messages: Sequence[Message], tools: list[Tool] | None) -> str:
    """Render a conversation with the prompt after which the assistant answers.

    Raises:
        DatasetError: the template raises an error on the conversation.
    """
    return format_.template.render(format_.messages(messages), tools, True)


def render_row(format_: ChatFormat, messages: list[Message], tools: list[Tool] | None) -> RenderedRow:
    """Render a conversation that ends with the last answer to be trained on.

    Raises:
        DatasetError: the template raises an error on the conversation, or its answer cannot be told from its prompt.
    """
    renderer = _Renderer(format_, messages, tools)
    last = len(messages) - 1
    prompt = renderer.prompt(last)
    answer = renderer.answer(last)
    text = prompt + answer
    end = (len(prompt), len(text))
    trained = [i for i in range(last) if messages[i]["role"] == "assistant" and messages[i].get("train", True)]
    if format_.template.marks_answers:
        earlier = renderer.marked(text, trained, len(prompt))
    else:
        earlier = [span for i in trained if (span := renderer.earlier_span(i, text[: len(prompt)]))]
    return RenderedRow(text, len(prompt), [*earlier, end], format_.ends_turn(answer), len(trained) - len(earlier))


class _Renderer:
    """Renders the beginnings of one conversation."""

    def __init__(self, format_: ChatFormat, messages: list[Message], tools: list[Tool] | None) -> None:
        self._format = format_
        self._source = messages
        self._messages = format_.messages(messages)
        self._tools = tools

    def prompt(self, number: int) -> str:
        """The prompt that a turn answers."""
        return self._render(self._messages[:number], True)

    def _render(self, messages: list[TemplateMessage], generation_prompt: bool) -> str:
        return self._format.template.render(messages, self._tools, generation_prompt)

    def answer(self, number: int) -> str:
        """What the model says at a turn, after the turn's prompt: up to the token that ends it."""
        format_ = self._format
        prompt, whole = self.prompt(number), self._render(self._messages[: number + 1], False)
        if whole.startswith(prompt):
            answer = whole[len(prompt) :]
        elif format_.opener and whole.startswith(prompt.removesuffix(format_.opener)):
            answer = whole[len(prompt.removesuffix(format_.opener)) :]
        else:
            answer = self._graft(number, prompt, whole)
        answer = self._with_reasoning(number, answer).removesuffix(format_.trailer)
        stripped = answer.rstrip()
        return stripped if format_.ends_turn(stripped) else answer  # what follows the end of a turn is never generated

    def _with_reasoning(self, number: int, answer: str) -> str:
        """Close the reasoning that the prompt left open, with the turn's reasoning before."""
        opened = self._format.opened
        if not opened:
            return answer
        marker = opened.strip()
        turn = self._source[number]
        reasoning = ""
        if self._format.reasoning("tool_calls" in turn) == "spliced":
            reasoning = self._format.reasoning_of(turn)
        if closing_marker(marker) in answer:
            return reasoning + answer
        line = opened[len(marker) :]  # a prompt that ends with a new line has its markers on lines of their own
        return f"{reasoning}{line if reasoning else ''}{closing_marker(marker)}{2 * line}{answer}"

    def _graft(self, number: int, prompt: str, whole: str) -> str:
        """The answer where the template writes other things before it than in its prompt (a system message, say).

        Both are rendered with another text in the turn before: what stays the same at the end begins after that text.
        """
        if number:
            before = self._messages[number - 1]
            other = {**before, "content": "kqother" if not str(before.get("content")).endswith("r") else "kqothers"}
            messages = [*self._messages[: number - 1], other]
            seam = common_end(prompt, self._render(messages, True))
            end = common_end(whole, self._render([*messages, self._messages[number]], False))
            for start in (seam, seam.removesuffix(self._format.opener)):
                if start and end.startswith(start):
                    return end[len(start) :]
            asked = prompt.removeprefix(self._render(self._messages[:number], False))
            if asked and asked != prompt and asked in end:
                return end.partition(asked)[2]
        raise DatasetError(
            f"{self._format.template.name} writes an assistant turn that does not start with its own generation "
            f"prompt ({whole[-120:]!r} against {prompt[-60:]!r}), so answers cannot be separated from prompts; "
            "use a template whose turns do, or a tokenizer without one (the Alpaca template is used then)"
        )

    def earlier_span(self, number: int, text: str) -> Span | None:
        """The span of an earlier answer in the prompt of the last; None where it is not what a server would see."""
        try:
            prompt, answer = self.prompt(number), self.answer(number)
        except DatasetError:  # nothing is asked before it, or the template refuses so short a conversation
            return None
        if not text.startswith(prompt):
            return None
        start = len(prompt)
        if text.startswith(answer, start):
            return start, start + len(answer)
        shared = common_start(answer, text[start:])
        while shared and not self._format.is_end(answer[len(shared) :]):
            cut = max(shared.rfind("<"), shared.rfind("["))  # perhaps within a token that ends the turn
            if cut < 0 or len(shared) - cut > _LONGEST_TOKEN:
                return None
            shared = shared[:cut]
        return (start, start + len(shared)) if shared else None

    def marked(self, text: str, trained: list[int], prompt_end: int) -> list[Span]:
        """The spans of earlier answers that the template itself marks."""
        whole, spans = self._format.template.render_marked(self._messages, self._tools)
        turns = [i for i, message in enumerate(self._messages) if message["role"] == "assistant"]
        if len(spans) != len(turns) or not whole.startswith(text[:prompt_end]):
            return [span for i in trained if (span := self.earlier_span(i, text[:prompt_end]))]
        kept = [(start, min(end, prompt_end)) for i, (start, end) in zip(turns, spans, strict=True) if i in trained]
        return [(start, self._trim(text, start, end)) for start, end in kept]

    def _trim(self, text: str, start: int, end: int) -> int:
        """The end of a span without white space after the end of a turn."""
        stripped = text[start:end].rstrip()
        return start + len(stripped) if self._format.ends_turn(stripped) else end


_LONGEST_TOKEN = 64
