"""Numbers and texts as the page and the card show them."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any

from loraline.artifacts.evaluation import LOWER_IS_BETTER, FigureName
from loraline.artifacts.training import MaskToken
from loraline.evidence.schema import PairedExample
from loraline.report.evidence_view import EvidenceView

LABELS: dict[FigureName, str] = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "perplexity": "perplexity",
    "loss": "loss",
}
NONE = "n/a"
_VISIBLE = {" ": "\u00b7", "\t": "\u2192\t", "\n": "\u21b5\n", "\r": "\u240d", "\u00a0": "\u237d"}
_LONGEST_TEXT = 1500
_LONGEST_DIFF = 400  # words; the comparison takes their square


def figure(value: Any) -> str:
    """A number with four digits that count; n/a for what is not there."""
    if value is None or isinstance(value, bool):
        return NONE if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "not a number"
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value)


def setting(value: Any) -> str:
    """A recipe's value, as it was written."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{'+' if value > 0 else '-'}{figure(abs(value))}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage."""
    return NONE if fraction is None else f"{100 * fraction:.3g}%"


def shorten(text: str | None) -> str:
    """A text without its end where it is very long."""
    text = text or ""
    return (
        text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} [{len(text) - _LONGEST_TEXT} more characters]"
    )


def visible_text(token: MaskToken) -> str:
    """A token's text with its white space made visible."""
    if token.special:
        return token.text
    return "".join(_VISIBLE.get(character, character) for character in token.text)


@dataclass(frozen=True)
class Comparison:
    """A line of the table base against tuned."""

    name: FigureName
    label: str
    base: float | None
    tuned: float | None
    difference: float | None
    outcome: str
    """`better`, `worse`, `same`, or empty where it cannot be told."""
    decides: bool
    champion: float | None = None

    @property
    def is_fraction(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.name not in LOWER_IS_BETTER


def comparisons(evidence: EvidenceView) -> list[Comparison]:
    """The table base against tuned; figures that neither side has are left out."""
    found = []
    for name, label in LABELS.items():
        base, tuned, champion = ((side or {}).get(name) for side in (evidence.base, evidence.tuned, evidence.champion))
        if base is None and tuned is None:
            continue
        difference = evidence.difference(name)
        decides = evidence.verdict.metric == name
        found.append(Comparison(name, label, base, tuned, difference, _outcome(name, difference), decides, champion))
    return found


def _outcome(name: FigureName, difference: float | None) -> str:
    if difference is None or not math.isfinite(difference):
        return ""
    if difference == 0:
        return "same"
    return "better" if (difference < 0) == (name in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer."""

    text: str
    is_off: bool
    """Whether the reference does not have it there."""


def against_reference(answer: str | None, reference: str | None) -> list[Piece]:
    """An answer in pieces, those marked that the reference does not have. None where the answer is empty."""
    words, expected = (re.findall(r"\s+|\w+|[^\w\s]", shorten(text)) for text in (answer, reference))
    if not words:
        return []
    if not expected or max(len(words), len(expected)) > _LONGEST_DIFF:
        return [Piece(shorten(answer), False)]
    matcher = difflib.SequenceMatcher(None, expected, words, autojunk=False)
    return [
        Piece("".join(words[begin:end]), kind != "equal")
        for kind, _, _, begin, end in matcher.get_opcodes()
        if end > begin
    ]


@dataclass(frozen=True)
class Group:
    """Examples with the same outcome."""

    name: str
    count: int
    shown: list[PairedExample]


def groups(evidence: EvidenceView) -> list[Group]:
    """The examples that were answered, by what the tuning did to them: what it mended and broke comes first."""
    answered = [
        example for example in evidence.examples if example.base.answer is not None or example.tuned.answer is not None
    ]
    kinds: dict[str, list[PairedExample]] = {"mended": [], "broken": [], "changed": [], "unchanged": []}
    for example in answered:
        kinds[_kind(example)].append(example)
    most = {"mended": 6, "broken": 6, "changed": 4, "unchanged": 2}
    return [Group(name, len(found), found[: most[name]]) for name, found in kinds.items()]


def _kind(example: PairedExample) -> str:
    before, after = example.base.exact_match or 0.0, example.tuned.exact_match or 0.0
    if before != after:
        return "mended" if after > before else "broken"
    return "changed" if example.has_changed else "unchanged"
