"""Search training rows, prompts and answers for a policy's categories, all with the same rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loraline.data.messages import message_text, tools_text
from loraline.safety import classifier
from loraline.safety.patterns import NormalizedText, compile_pattern
from loraline.safety.personal_data import find_personal_data, mask_personal_data
from loraline.safety.policy import Policy
from loraline.safety.policy_schema import Category, ConversationAction

if TYPE_CHECKING:
    from loraline.artifacts.dataset_files import Message
    from loraline.data.rows import Row

Place = Literal["rows", "prompt", "answer"]
"""Where text comes from; an attribute of `Actions`."""

_PRECEDENCE = ("emergency", "refuse", "refer", "allow-with-notice")
"""Of several matching categories the one whose action comes first here decides; of equals, the first in the policy."""
_EXCERPT_CONTEXT = 40  # characters on each side of the match


@dataclass(frozen=True)
class Match:
    """A category found in a training row."""

    category: str
    action: Literal["drop", "report"]
    where: int | Literal["text", "tools"]
    """Index of the turn, "tools" for the definitions of tools, or "text" for a plain text."""
    start: int
    end: int
    """Character offsets in that text (of a turn: `loraline.data.messages.message_text`). A match of the classifier
    spans all of it."""
    excerpt: str
    """The match with its context; personal data masked."""


@dataclass(frozen=True)
class Decision:
    """The outcome for a prompt or an answer."""

    allowed: bool
    action: Literal["allow"] | ConversationAction = "allow"
    category: str = ""
    """The category that decided; empty without a match."""
    text: str = ""
    """Not allowed: the response. Allowed with a notice: the text to append to the answer."""


ALLOWED = Decision(True)


def screen_row(policy: Policy, row: "Row") -> list[Match]:
    """Find the policy's categories in a training row: each category at most once a turn.

    The policy's own system prompt, which names what it forbids, is skipped.
    """
    places: list[tuple[int | Literal["text", "tools"], str]] = [
        (turn, message_text(message))
        for turn, message in enumerate(row.messages or [])
        if not (message["role"] == "system" and message["content"] == policy.system_prompt)
    ]
    if row.tools:
        places.append(("tools", tools_text(row.tools)))
    if row.text is not None:
        places.append(("text", row.text))
    return [
        Match(category.name, category.actions.rows, where, start, end, _excerpt(text, start, end))
        for where, text in places
        for category, start, end in _matches(policy, "rows", text)
        if category.actions.rows
    ]


def check_prompt(policy: Policy, messages: "Sequence[Message]") -> Decision:
    """Decide whether the model may be run, from the messages of user and tools after the last assistant message."""
    last_answer = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    asked = (message for message in messages[last_answer + 1 :] if message["role"] in ("user", "tool"))
    prompt = "\n\n".join(map(message_text, asked))
    return _decide(policy, "prompt", [category for category, _, _ in _matches(policy, "prompt", prompt)])


def check_answer(policy: Policy, messages: "Sequence[Message]", answer: str) -> Decision:
    """Decide whether an answer may be shown. Personal data from the conversation itself may be repeated."""
    known = "\n".join(map(message_text, messages))
    return _decide(policy, "answer", [category for category, _, _ in _matches(policy, "answer", answer, known)])


def leaked_personal_data(text: str, known: str, exempt: Sequence[str] = ()) -> tuple[int, int] | None:
    """Start and end of the first personal data in a text that are neither part of `known` nor exempt."""
    for span in find_personal_data(text):
        value = text[span.start : span.end]
        if value not in known and not any(compile_pattern(pattern).fullmatch(value) for pattern in exempt):
            return span.start, span.end
    return None


def _matches(policy: Policy, place: Place, text: str, known: str = "") -> Iterator[tuple[Category, int, int]]:
    """The matching categories that have an action for a place, in the policy's order, with start and end."""
    active = [category for category in policy.categories if getattr(category.actions, place)]
    normalized = NormalizedText(text)
    any_pattern = normalized.matches_any(tuple(pattern for category in active for pattern in category.patterns))
    classified = classifier.categories(policy.classifier, text, {one.name for one in active})
    for category in active:
        span = next(filter(None, map(normalized.find, category.patterns)), None) if any_pattern else None
        if span is None and category.personal_data:
            span = leaked_personal_data(text, known, category.exempt)
        if span is None and category.name in classified:
            span = (0, len(text))
        if span is not None:
            yield category, *span


def _decide(policy: Policy, place: Literal["prompt", "answer"], matches: list[Category]) -> Decision:
    if not matches:
        return ALLOWED
    category = min(matches, key=lambda one: _PRECEDENCE.index(getattr(one.actions, place)))
    action: ConversationAction = getattr(category.actions, place)
    return Decision(action == "allow-with-notice", action, category.name, policy.text_for(category, action))


def _excerpt(text: str, start: int, end: int) -> str:
    """The match with its context on one line. Personal data at the edges are included whole, and then masked."""
    first, last = max(0, start - _EXCERPT_CONTEXT), min(len(text), end + _EXCERPT_CONTEXT)
    for span in find_personal_data(text):
        if span.start < last and span.end > first:
            first, last = min(first, span.start), max(last, span.end)
    shown = " ".join(mask_personal_data(text[first:last]).split())
    return f"{'...' * (first > 0)}{shown}{'...' * (last < len(text))}"
