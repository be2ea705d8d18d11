"""Excerpts of rows for reports, without personal data."""

from loraline.artifacts.dataset import SampleRow
from loraline.data.messages import SYSTEM_ROLES, map_message, message_text
from loraline.data.rows import Row
from loraline.safety.personal_data import mask_personal_data

MAX_EXAMPLES = 20
"""Number of examples that a report has at most of each finding."""
_EXCERPT_CHARACTERS = 200
_SAMPLE_CHARACTERS = 2000


def excerpt_of(row: Row) -> str:
    """The beginning of a row's turns or text on one line, without system messages; personal data masked."""
    turns = [message_text(turn) for turn in row.messages or [] if turn["role"] not in SYSTEM_ROLES]
    text = " | ".join(turns) if row.text is None else row.text
    return shorten(text)


def shorten(text: str) -> str:
    """The beginning of a text on one line; personal data masked."""
    shown = " ".join(mask_personal_data(text[: 4 * _EXCERPT_CHARACTERS]).split())
    return shown if len(shown) <= _EXCERPT_CHARACTERS else f"{shown[: _EXCERPT_CHARACTERS - 4]} ..."


def sample_of(row: Row) -> SampleRow:
    """A row for a report; long contents are cut."""
    turns = row.messages and [map_message(_cut, turn) for turn in row.messages]
    return SampleRow(id=row.id, origin=row.origin, messages=turns, text=row.text and _cut(row.text))


def _cut(text: str) -> str:
    if len(text) <= _SAMPLE_CHARACTERS:
        return text
    return f"{text[:_SAMPLE_CHARACTERS]} ... ({len(text) - _SAMPLE_CHARACTERS} more characters)"
