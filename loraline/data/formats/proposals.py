"""Propose the setting that makes rows readable whose columns fit no format, after trying it on them."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

from pydantic import ValidationError

from loraline.data.formats.detection import convert_record, detect_format
from loraline.data.formats.json_values import parsed
from loraline.data.reading.records import SourceRecord
from loraline.data.source_config import Columns, SourceRequest
from loraline.errors import DatasetError

_PREFERRED = ("chosen", "chosen_messages", "chosen_response", "preferred")
_PROMPTS = ("prompt", "question", "instruction", "query", "input", "problem", "conversations", "messages")
_GIVEN = ("input", "context", "passage", "document")
_LIKE_PROMPTS = ("prompt", "question", "instruction", "query", "input", "problem", "request", "user", "source", "task")
_LIKE_ANSWERS = (
    "answer",
    "response",
    "output",
    "completion",
    "target",
    "reply",
    "solution",
    "assistant",
    "summary",
    "highlights",
)
_IS_ID = re.compile(r"(^|_)(id|uuid|hash|url)$", re.IGNORECASE)
_MAX_TEXT_COLUMNS = 8


def propose_columns(records: Sequence[SourceRecord], request: SourceRequest) -> str:
    """A sentence with the setting under which most of these records are valid; empty where none was found."""
    present = list(dict.fromkeys(column for record in records for column in record.fields))
    for columns in _candidates(present, records):
        valid = _valid(records, present, columns)
        if 2 * valid > len(records):
            return f" Try {_as_setting(columns, request)}: {valid} of the first {len(records)} rows are valid with it."
    return ""


def _valid(records: Sequence[SourceRecord], present: list[str], columns: dict[str, str]) -> int:
    """How many records are rows with these columns."""
    try:
        detected = detect_format(present, Columns(**columns), "")
    except (DatasetError, ValidationError):
        return 0
    return sum(bool(convert_record(record, detected).contents) for record in records)


def _candidates(present: list[str], records: Sequence[SourceRecord]) -> Iterator[dict[str, str]]:
    """Columns to try, the most likely first."""
    for chosen in (column for column in _PREFERRED if column in present):
        yield {"messages": chosen}
        for prompt in (column for column in _PROMPTS if column in present):
            part = prompt if prompt in ("conversations", "messages") else "prompt"
            given = next((column for column in _GIVEN if column in present and column != prompt), "")
            yield {part: prompt, "completion": chosen, **({"input": given} if given and part == "prompt" else {})}
    yield from ({"messages": column} for column in present if _holds(records, column, _is_conversation))
    texts = [column for column in present if not _IS_ID.search(column) and _holds(records, column, _is_text)]
    if len(texts) > 1:
        pair = _pair(texts[:_MAX_TEXT_COLUMNS], records)
        # Of several texts one must be named like an answer: a wrong proposal is worse than none.
        if len(texts) == 2 or _likeness(pair["completion"], _LIKE_ANSWERS):
            yield pair
    elif texts and _holds(records, texts[0], _has_words):
        yield {"text": texts[0]}


def _holds(records: Sequence[SourceRecord], column: str, test: Any) -> bool:
    values = [record.fields[column] for record in records if record.fields.get(column) not in (None, "")]
    return bool(values) and all(map(test, values))


def _is_conversation(value: Any) -> bool:
    turns = parsed(value)
    if not isinstance(turns, list) or not turns:
        return False
    return all(isinstance(turn, dict) for turn in turns) or (
        len(turns) > 1 and all(isinstance(turn, str) for turn in turns)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _has_words(value: Any) -> bool:
    return isinstance(value, str) and len(value.split()) > 1


def _likeness(column: str, names: tuple[str, ...]) -> int:
    name = column.lower()
    return max((len(names) - number for number, one in enumerate(names) if one in name), default=0)


def _pair(texts: list[str], records: Sequence[SourceRecord]) -> dict[str, str]:
    """The column that is most like a prompt and the one that is most like an answer, by name, then by length."""

    def length(column: str) -> float:
        return sum(len(record.fields.get(column) or "") for record in records) / len(records)

    def score(pair: tuple[str, ...]) -> tuple[int, float]:
        prompt, answer = pair
        named = _likeness(prompt, _LIKE_PROMPTS) + _likeness(answer, _LIKE_ANSWERS)
        in_order = texts.index(prompt) < texts.index(answer)
        return named, min(length(prompt), length(answer)) * (1 + in_order)

    prompt, answer = max(permutations(texts, 2), key=score)
    return {"prompt": prompt, "completion": answer}


def _as_setting(columns: dict[str, str], request: SourceRequest) -> str:
    """Columns as people write them for a source."""
    if request.setting == "source":
        return " ".join(f"data.columns.{part}={_quoted(column)}" for part, column in columns.items())
    mapping = ", ".join(f"{part}: {_quoted(column)}" for part, column in columns.items())
    entry = f"{{source: {json.dumps(request.name)}, columns: {{{mapping}}}}}"
    field, _, number = request.setting.partition("[")
    return f"the entry {entry} in data.{field}" if number else f"data.{field}='{entry}'"


def _quoted(column: str) -> str:
    return column if column.replace("_", "").replace("-", "").isalnum() else json.dumps(column, ensure_ascii=False)
