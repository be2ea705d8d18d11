"""What is done to a row's content before it becomes a row: the policy's system prompt, personal data, the policy.

It is done before rows are hashed, so that a row's id is that of what is trained on.
"""

from collections import Counter
from typing import Literal

from loraline.artifacts.dataset import PersonalData, PersonalDatum, PolicyFindings, PolicyMatch
from loraline.artifacts.dataset_files import Message
from loraline.data.description.excerpts import EXAMPLES
from loraline.data.reading.formats import Content
from loraline.data.rows import Row
from loraline.safety import Policy, screen_row
from loraline.safety.personal_data import Span, find_personal_data, mask_personal_data

_AROUND = 60  # characters shown before and after a find

Dropped = Literal["personal data", "policy"]


class Screen:
    """Screens rows and keeps count of what it found."""

    def __init__(self, personal_data: Literal["report", "mask", "drop"], policy: Policy | None) -> None:
        self._action = personal_data
        self._policy = policy
        self._kinds: Counter[str] = Counter()
        self._categories: Counter[str] = Counter()
        self._personal = PersonalData(action=personal_data)
        self._matched = PolicyFindings(name=policy.name if policy else "")

    def row(self, content: Content, origin: str) -> Row | Dropped:
        """Make a row of a content, or say what it is dropped for."""
        messages, text = self._with_system_prompt(content.messages), content.text
        turns = [text] if messages is None else [turn["content"] for turn in messages]
        # Looked for in all turns at once, because most rows hold none.
        if find_personal_data("\n\n".join(turn or "" for turn in turns)):
            spans = [find_personal_data(turn or "") for turn in turns]
            self._count(turns, spans, origin)
            if self._action == "drop":
                self._personal.dropped += 1
                return "personal data"
            if self._action == "mask":
                messages = messages and [{**turn, "content": mask_personal_data(turn["content"])} for turn in messages]
                text = text and mask_personal_data(text)
        row = Row.of(messages, text, origin)
        return "policy" if self._policy and self._is_dropped(self._policy, row) else row

    def _with_system_prompt(self, messages: list[Message] | None) -> list[Message] | None:
        prompt = self._policy.system_prompt if self._policy else ""
        if not messages or not prompt or messages[0]["role"] == "system":
            return messages
        return [{"role": "system", "content": prompt}, *messages]

    def _count(self, turns: list[str | None] | list[str], spans: list[list[Span]], origin: str) -> None:
        self._personal.rows += 1
        for text, found in zip(turns, spans, strict=True):
            for span in found:
                self._kinds[span.kind] += 1
                if len(self._personal.examples) < EXAMPLES:
                    shown = _around(text or "", found, span)
                    self._personal.examples.append(PersonalDatum(origin=origin, kind=span.kind, excerpt=shown))

    def _is_dropped(self, policy: Policy, row: Row) -> bool:
        matches = screen_row(policy, row)
        if not matches:
            return False
        self._matched.rows += 1
        self._categories.update({match.category for match in matches})
        for match in matches[: EXAMPLES - len(self._matched.examples)]:
            shown = PolicyMatch(origin=row.origin, category=match.category, excerpt=match.excerpt)
            self._matched.examples.append(shown)
        dropped = any(match.action == "drop" for match in matches)
        self._matched.dropped += dropped
        return dropped

    def personal_data(self) -> PersonalData:
        """The personal data found so far."""
        return self._personal.model_copy(update={"found": dict(self._kinds.most_common())})

    def policy(self) -> PolicyFindings | None:
        """What the policy found so far; None where there is none."""
        found = self._matched.model_copy(update={"found": dict(self._categories.most_common())})
        return found if self._policy else None


def _around(text: str, found: list[Span], shown: Span) -> str:
    """A find among the words around it, in one line. All that is personal there is masked, also where it is cut."""
    start, end = max(0, shown.start - _AROUND), min(len(text), shown.end + _AROUND)
    parts, done = [], start
    for span in found:
        if span.end > start and span.start < end:
            parts += [text[done : max(done, span.start)], f"[{span.kind.upper()}]"]
            done = span.end
    return " ".join("".join([*parts, text[done:end]]).split())
