"""What reports quote of rows: a few of them, in excerpts, without personal data."""

from loraline.artifacts.dataset import Sample
from loraline.data.rows import Row
from loraline.safety.personal_data import mask_personal_data

EXAMPLES = 20
"""How many examples a report quotes for each finding at most."""
_EXCERPT_CHARACTERS = 200
_SAMPLE_CHARACTERS = 2000


def excerpt_of(row: Row) -> str:
    """How a row begins: its question, or its text; personal data masked."""
    turns = [turn["content"] for turn in row.messages or [] if turn["role"] != "system"]
    return excerpt(" | ".join(turns) if row.text is None else row.text)


def excerpt(text: str) -> str:
    """The beginning of a text in one line, personal data masked."""
    shown = " ".join(mask_personal_data(text[: 4 * _EXCERPT_CHARACTERS]).split())
    return shown if len(shown) <= _EXCERPT_CHARACTERS else f"{shown[: _EXCERPT_CHARACTERS - 4]} ..."


def sample_of(row: Row) -> Sample:
    """A row to look at, with long contents cut."""
    turns = row.messages and [{"role": turn["role"], "content": _cut(turn["content"])} for turn in row.messages]
    return Sample(id=row.id, origin=row.origin, messages=turns, text=row.text and _cut(row.text))


def _cut(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return text
    return f"{text[:_SAMPLE_CHARACTERS]} ... ({len(text) - _SAMPLE_CHARACTERS} more characters)"
