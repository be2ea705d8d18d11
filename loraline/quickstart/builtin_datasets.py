"""The built-in datasets, which are read as `builtin:<name>`."""

import hashlib
import json
from collections.abc import Iterator

from loraline.errors import DatasetError
from loraline.quickstart import dates, messages_to_json

SCHEME = "builtin:"
_DATASETS = {
    "dates": dates.training_rows,
    "dates-general": dates.general_rows,
    "messages": messages_to_json.training_messages,
    "messages-held-out": messages_to_json.held_out_messages,
}


def builtin_rows(source: str) -> Iterator[dict[str, str]]:
    """The rows of `builtin:dates` or `builtin:messages`, to fine-tune on, or of another built-in dataset.

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
