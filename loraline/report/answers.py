"""The answers of the models side by side: what tuning fixed and what it broke."""

import difflib
import re
from dataclasses import dataclass

from loraline.evidence.schema import Evidence, PairedExample
from loraline.report.formatting import shorten

_MOST_WORDS = 400  # of an answer that is compared with its reference: the time grows with their square
_MOST_SHOWN = {"fixed": 6, "broken": 6, "changed": 4, "unchanged": 2}


@dataclass(frozen=True)
class TextSpan:
    """A part of an answer."""

    text: str
    differs: bool
    """Whether the reference does not have it there."""


@dataclass(frozen=True)
class AnswerGroup:
    """Examples that tuning had the same effect on."""

    name: str
    count: int
    shown: list[PairedExample]


def answer_groups(evidence: Evidence) -> list[AnswerGroup]:
    """The answered examples by the effect of tuning: fixed and broken first."""
    groups: dict[str, list[PairedExample]] = {name: [] for name in _MOST_SHOWN}
    for example in evidence.examples:
        if example.base.answer is not None or example.tuned.answer is not None:
            groups[_effect(example)].append(example)
    return [AnswerGroup(name, len(found), found[: _MOST_SHOWN[name]]) for name, found in groups.items()]


def spans(answer: str | None, reference: str | None) -> list[TextSpan]:
    """An answer in spans, each equal to the reference or not. Empty where the answer is."""
    words, expected = (re.findall(r"\s+|\w+|[^\w\s]", shorten(text)) for text in (answer, reference))
    if not words:
        return []
    if not expected or max(len(words), len(expected)) > _MOST_WORDS:
        return [TextSpan(shorten(answer), False)]
    matcher = difflib.SequenceMatcher(None, expected, words, autojunk=False)
    return [
        TextSpan("".join(words[begin:end]), kind != "equal")
        for kind, _, _, begin, end in matcher.get_opcodes()
        if end > begin
    ]


def _effect(example: PairedExample) -> str:
    before, after = example.base.exact_match or 0.0, example.tuned.exact_match or 0.0
    if before != after:
        return "fixed" if after > before else "broken"
    return "changed" if example.has_changed else "unchanged"
