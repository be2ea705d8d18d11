"""Lists and objects in a field, which CSV and some JSON hold as text."""

import json
from typing import Any


def parsed(value: Any) -> Any:
    """A value; of text that is JSON, also JSON in JSON, what it stands for; other text as it is."""
    for _ in range(2):
        if not isinstance(value, str) or not value.strip():
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            break
    return value


def without_nulls(value: Any) -> Any:
    """A value without the keys that are null, at any depth: Arrow fills them in where other rows have the key."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
