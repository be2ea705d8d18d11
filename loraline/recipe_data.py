"""Settings of a recipe that hold for its own data alone.

A threshold that was found with certain rows, or the names of their columns, says nothing of others. A recipe states
such settings below `for_data`, under the `data.source` that they belong to:

    for_data:
      builtin:dates:
        gate: { metric: exact_match, min_gain: 0.5 }

With any other `data.source` they do not apply, and the defaults of the configuration classes do.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from loraline import progress
from loraline.errors import ConfigurationError

FOR_DATA = "for_data"

Values = dict[str, Any]
"""Values nested as in a recipe file: section, then field."""


def settings_for_data(values: Values) -> Values:
    """The values with those of `for_data` that belong to `data.source` laid under them; others are dropped and told.

    Raises:
        ConfigurationError: `for_data` is something else than sections of settings by data source.
    """
    by_source = values.get(FOR_DATA)
    rest = {name: section for name, section in values.items() if name != FOR_DATA}
    if not by_source:
        return rest
    _check_shape(by_source)
    data = values.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    own = by_source.get(source, {}) if isinstance(source, str) else {}
    if not own:
        dropped = ", ".join(sorted({name for sections in by_source.values() for name in _names(sections)}))
        progress.note(
            f"the data is {source!r}, and not {' or '.join(map(repr, by_source))}: the recipe's {dropped} belong to "
            "that alone, and the defaults apply instead"
        )
    for name, section in own.items():
        given = rest.get(name) or {}
        rest[name] = {**section, **given} if isinstance(given, Mapping) else given
    return rest


def _names(sections: Mapping[str, Any]) -> Iterator[str]:
    for name, section in sections.items():
        yield from (f"{name}.{field}" for field in section)


def _check_shape(by_source: Any) -> None:
    sections = by_source.values() if isinstance(by_source, Mapping) else [None]
    fields = [field for one in sections for field in (one.values() if isinstance(one, Mapping) else [None])]
    if not all(isinstance(field, Mapping) for field in fields):
        raise ConfigurationError(
            f"{FOR_DATA} is {by_source!r}: it holds sections of settings by the data.source that they belong to, such "
            "as {'rows.jsonl': {'gate': {'min_gain': 0.1}}}"
        )
