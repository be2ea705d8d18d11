"""Looking for a policy's categories: in training rows, in prompts and in answers, always in the same way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loraline.safety import classifier
from loraline.safety.patterns import Reading, compile_pattern
from loraline.safety.personal_data import find_personal_data, mask_personal_data
from loraline.safety.policy import Policy
from loraline.safety.policy_schema import Category, ConversationAction

if TYPE_CHECKING:
    from loraline.data.rows import Message, Row

Place = Literal["rows", "prompt", "answer"]

_STRENGTH = ("emergency", "refuse", "refer", "allow-with-notice")
"""Where several categories are found, the strongest action decides, and of equals the one that stands first."""
_AROUND = 40  # characters of an excerpt on each side of what was found


@dataclass(frozen=True)
class Match:
    """A category found in a training row."""

    category: str
    action: Literal["drop", "report"]
    where: int | Literal["text"]
    """Index of the turn, or "text" for a plain text."""
    start: int
    end: int
    """Characters of that turn or text. A classifier finds its category in all of it."""
    excerpt: str
    """What was found with some words around it; personal data masked."""


@dataclass(frozen=True)
class Decision:
    """What becomes of a prompt or of an answer."""

    allowed: bool
    action: Literal["allow"] | ConversationAction = "allow"
    category: str = ""
    """The category that decided; empty where none was found."""
    text: str = ""
    """Not allowed: what is said instead. Allowed with a notice: what is said after the answer."""


ALLOWED = Decision(True)


def screen_row(policy: Policy, row: "Row") -> list[Match]:
    """What of a policy's categories a training row holds: each category once a turn.

    The policy's own system prompt, which names what it forbids, is not looked at.
    """
    places: list[tuple[int | Literal["text"], str]] = [
        (turn, message["content"])
        for turn, message in enumerate(row.messages or [])
        if not (message["role"] == "system" and message["content"] == policy.system_prompt)
    ]
    if row.text is not None:
        places.append(("text", row.text))
    return [
        Match(category.name, category.actions.rows, where, start, end, _excerpt(text, start, end))
        for where, text in places
        for category, start, end in _found(policy, "rows", text)
        if category.actions.rows
    ]


def check_prompt(policy: Policy, messages: "Sequence[Message]") -> Decision:
    """Whether the model may be asked: looks at what the user said since the assistant last spoke."""
    spoke = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    asked = "\n\n".join(message["content"] for message in messages[spoke + 1 :] if message["role"] == "user")
    return _decide(policy, "prompt", [category for category, _, _ in _found(policy, "prompt", asked)])


def check_answer(policy: Policy, messages: "Sequence[Message]", answer: str) -> Decision:
    """Whether an answer may be shown. Personal data that stand in the conversation are not news."""
    known = "\n".join(message["content"] for message in messages)
    return _decide(policy, "answer", [category for category, _, _ in _found(policy, "answer", answer, known)])


def leaked_personal_data(text: str, known: str, exempt: Sequence[str] = ()) -> tuple[int, int] | None:
    """The first personal datum in a text that neither stands in what is known nor is exempt: start and end."""
    for span in find_personal_data(text):
        found = text[span.start : span.end]
        if found not in known and not any(compile_pattern(pattern).fullmatch(found) for pattern in exempt):
            return span.start, span.end
    return None


def _found(policy: Policy, place: Place, text: str, known: str = "") -> Iterator[tuple[Category, int, int]]:
    """The categories that act at a place and that a text holds, in the policy's order, with start and end."""
    acting = [category for category in policy.categories if getattr(category.actions, place)]
    reading = Reading(text)
    searched = reading.holds_any(tuple(pattern for category in acting for pattern in category.patterns))
    classified = classifier.categories(policy.classifier, text, {one.name for one in acting})
    for category in acting:
        span = next(filter(None, map(reading.find, category.patterns)), None) if searched else None
        if span is None and category.personal_data:
            span = leaked_personal_data(text, known, category.exempt)
        if span is None and category.name in classified:
            span = (0, len(text))
        if span is not None:
            yield category, *span


def _decide(policy: Policy, place: Literal["prompt", "answer"], found: list[Category]) -> Decision:
    if not found:
        return ALLOWED
    category = min(found, key=lambda one: _STRENGTH.index(getattr(one.actions, place)))
    action: ConversationAction = getattr(category.actions, place)
    return Decision(action == "allow-with-notice", action, category.name, policy.text_for(category, action))


def _excerpt(text: str, start: int, end: int) -> str:
    """What was found with some words around it, in one line; what it would cut of personal data is masked whole."""
    begin, until = max(0, start - _AROUND), min(len(text), end + _AROUND)
    for span in find_personal_data(text):
        if span.start < until and span.end > begin:
            begin, until = min(begin, span.start), max(until, span.end)
    shown = " ".join(mask_personal_data(text[begin:until]).split())
    return f"{'...' * (begin > 0)}{shown}{'...' * (until < len(text))}"
