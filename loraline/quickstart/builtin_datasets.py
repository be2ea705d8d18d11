"""The built-in datasets, which are read as `builtin:<name>`."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from loraline.errors import DatasetError
from loraline.quickstart import dates, messages_to_json

SCHEME = "builtin:"
GENERAL = f"{SCHEME}general"
"""Short questions of many kinds with their answers: the general set where a recipe names no other."""


def _general_rows() -> Iterator[dict[str, str]]:
    yield from map(json.loads, (Path(__file__).parent / "general.jsonl").read_text(encoding="utf-8").splitlines())


_DATASETS = {
    "dates": dates.training_rows,
    "dates-general": dates.general_rows,
    "general": _general_rows,
    "messages": messages_to_json.training_messages,
    "messages-held-out": messages_to_json.held_out_messages,
}


def builtin_rows(source: str) -> Iterator[dict[str, str]]:
    """The rows of a built-in dataset.

    `builtin:dates` and `builtin:messages` are there to fine-tune on, `builtin:general` and, for the quickstart's base,
    `builtin:dates-general` to measure forgetting on.

    Raises:
        DatasetError: there is no built-in dataset of this name.
    """
    name = source.removeprefix(SCHEME)
    if name not in _DATASETS:
        known = ", ".join(f"{SCHEME}{known}" for known in _DATASETS)
        raise DatasetError(f"there is no {SCHEME}{name}; the built-in datasets are {known}")
    return _DATASETS[name]()


def builtin_digest(source: str) -> str:
    """SHA-256 of the rows of a built-in dataset.

    Raises:
        DatasetError: there is no built-in dataset of this name.
    """
    return hashlib.sha256(json.dumps(list(builtin_rows(source))).encode()).hexdigest()
