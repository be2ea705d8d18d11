"""Screen rows: add the policy's system prompt, find personal data, and apply the policy.

Rows are screened before they are hashed, so that a row's id is that of the content that is trained on.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from loraline.artifacts.dataset import PersonalDataFindings, PolicyFindings, ScreeningExample
from loraline.artifacts.dataset_files import Message
from loraline.data.description.excerpts import MAX_EXAMPLES
from loraline.data.formats.row_content import RowContent
from loraline.data.messages import SYSTEM_ROLES, map_message, map_value, message_text, tools_text
from loraline.data.rows import Row
from loraline.safety.personal_data import Span, find_personal_data, mask_personal_data
from loraline.safety.policy import Policy
from loraline.safety.screening import screen_row

_CONTEXT_CHARACTERS = 60  # shown before and after personal data

DropReason = Literal["personal_data", "policy"]


@dataclass
class _Findings:
    rows: int = 0
    dropped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[ScreeningExample] = field(default_factory=list)

    def add_example(self, origin: str, category: str, excerpt: str) -> None:
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(ScreeningExample(origin=origin, category=category, excerpt=excerpt))


class RowScreener:
    """Screens rows and collects what it finds."""

    def __init__(self, personal_data: Literal["report", "mask", "drop"], policy: Policy | None) -> None:
        self._action = personal_data
        self._policy = policy
        self._personal_data = _Findings()
        self._policy_matches = _Findings()

    def screen(self, content: RowContent, origin: str) -> Row | DropReason:
        """Make a row of a content, or return why it is dropped."""
        messages, text = self._with_system_prompt(content.messages), content.text
        tools = content.tools
        turns = [text or ""] if messages is None else [message_text(turn) for turn in messages]
        if tools:
            turns.append(tools_text(tools))
        # All turns are searched at once first, because most rows have no personal data.
        if find_personal_data("\n\n".join(turns)):
            self._add_personal_data(turns, origin)
            if self._action == "drop":
                self._personal_data.dropped += 1
                return "personal_data"
            if self._action == "mask":
                messages = messages and [map_message(mask_personal_data, turn) for turn in messages]
                text = text and mask_personal_data(text)
                tools = tools and map_value(mask_personal_data, tools)
        row = Row.of(messages, text, origin, tools)
        return "policy" if self._policy and self._is_dropped(self._policy, row) else row

    def _with_system_prompt(self, messages: list[Message] | None) -> list[Message] | None:
        prompt = self._policy.system_prompt if self._policy else ""
        if not messages or not prompt or messages[0]["role"] in SYSTEM_ROLES:
            return messages
        return [{"role": "system", "content": prompt}, *messages]

    def _add_personal_data(self, turns: list[str], origin: str) -> None:
        found = self._personal_data
        found.rows += 1
        for text in turns:
            spans = find_personal_data(text)
            for span in spans:
                found.counts[span.kind] += 1
                found.add_example(origin, span.kind, _masked_context(text, spans, span))

    def _is_dropped(self, policy: Policy, row: Row) -> bool:
        matches = screen_row(policy, row)
        if not matches:
            return False
        found = self._policy_matches
        found.rows += 1
        found.counts.update({match.category for match in matches})
        for match in matches:
            found.add_example(row.origin, match.category, match.excerpt)
        dropped = any(match.action == "drop" for match in matches)
        found.dropped += dropped
        return dropped

    def personal_data(self) -> PersonalDataFindings:
        """The personal data found so far."""
        found = self._personal_data
        return PersonalDataFindings(
            action=self._action,
            rows=found.rows,
            dropped=found.dropped,
            counts=dict(found.counts.most_common()),
            examples=found.examples,
        )

    def policy(self) -> PolicyFindings | None:
        """The policy's matches so far; None without a policy."""
        found = self._policy_matches
        if not self._policy:
            return None
        return PolicyFindings(
            name=self._policy.name,
            rows=found.rows,
            dropped=found.dropped,
            counts=dict(found.counts.most_common()),
            examples=found.examples,
        )


def _masked_context(text: str, spans: list[Span], shown: Span) -> str:
    """A span with its context on one line, all personal data in it masked, also where it is cut."""
    start, end = max(0, shown.start - _CONTEXT_CHARACTERS), min(len(text), shown.end + _CONTEXT_CHARACTERS)
    parts, done = [], start
    for span in spans:
        if span.end > start and span.start < end:
            parts += [text[done : max(done, span.start)], f"[{span.kind.upper()}]"]
            done = span.end
    return " ".join("".join([*parts, text[done:end]]).split())
