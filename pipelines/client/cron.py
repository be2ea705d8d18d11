"""Cron expressions as KFP reads them: six fields, seconds first."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product

from loraline.errors import ConfigurationError

TIME_ZONE = "UTC"
"""KFP's own default. An installation may set another (cronScheduleTimezone) and its API does not tell which."""

_FIELDS = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_SHORTHANDS = {
    "@hourly": "0 0 * * * *",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
}
_HORIZON = timedelta(days=8 * 366)  # two leap days even across a year such as 2100
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """A checked cron expression."""

    text: str
    """Six fields, as KFP takes them."""
    values: tuple[frozenset[int], ...]
    """What each field allows: seconds, minutes, hours, days, months, weekdays (0 is Sunday)."""
    any_day: bool
    """Whether days are not limited, so that weekdays decide; where both are limited, either is enough."""
    any_weekday: bool

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moments at which it fires after a moment, in that moment's time zone, for the next eight years."""
        seconds, minutes, hours, *_ = (sorted(allowed) for allowed in self.values)
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        end = moment + _HORIZON
        while day < end:
            if self._fires_on(day):
                times = (day.replace(hour=h, minute=m, second=s) for h, m, s in product(hours, minutes, seconds))
                yield from (time for time in times if time > moment)
            day += timedelta(days=1)

    def _fires_on(self, day: datetime) -> bool:
        *_, days, months, weekdays = self.values
        in_days, in_weekdays = day.day in days, day.isoweekday() % 7 in weekdays
        either = in_days or in_weekdays
        both = in_days and in_weekdays
        return day.month in months and (both if self.any_day or self.any_weekday else either)


def parse_cron(text: str) -> Cron:
    """Check a cron expression.

    Raises:
        ConfigurationError: it is not six valid fields, never fires, or fires every few seconds.
    """
    fields = _SHORTHANDS.get(text.strip().lower(), text).split()
    if len(fields) == 5:
        raise ConfigurationError(_five_fields(text, fields))
    if len(fields) != 6:
        raise ConfigurationError(
            f"cron {text!r} has {len(fields)} fields; KFP's has six: second minute hour day month weekday, "
            "such as '0 0 2 * * *' for every day at 02:00"
        )
    values = tuple(_values(text, field, *place) for field, place in zip(fields, _FIELDS, strict=True))
    cron = Cron(" ".join(fields), values, any_day=fields[3][0] in "*?", any_weekday=fields[5][0] in "*?")
    first = list(islice(cron.after(datetime(2024, 1, 1, tzinfo=UTC)), 2))
    if not first:
        raise ConfigurationError(f"cron {text!r} never fires: no month has such a day")
    if len(first) == 2 and first[1] - first[0] < _SHORTEST:
        raise ConfigurationError(
            f"cron {text!r} fires every {(first[1] - first[0]).seconds} s. The first field is the second: "
            f"write {' '.join(['0', *fields[1:]])!r} for once in each minute that the rest names"
        )
    return cron


def _five_fields(text: str, fields: list[str]) -> str:
    meant = " ".join(["0", *fields[:4], re.sub(r"\b7\b", "0", fields[4])])
    taken = ", ".join(
        f"every {name}" if value in ("*", "?") else f"{name} {value}"
        for (name, _, _), value in zip(_FIELDS, fields, strict=False)
    )
    return (
        f"cron {text!r} has five fields. KFP would take it without a word and read it with seconds first: {taken}. "
        f"Write six fields; you most likely mean {meant!r}"
    )


def _values(text: str, field: str, name: str, low: int, high: int) -> frozenset[int]:
    """What one field allows, such as `*`, `1-5`, `*/15`, `mon,fri`."""
    allowed: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        whole = span in ("*", "?")
        try:
            start = low if whole else _number(first, name)
            stop = high if whole or (slash and not dash) else _number(last, name) if dash else start
            stride = int(step) if slash else 1
        except ValueError:
            start, stop, stride = 0, -1, 0
        if not low <= start <= stop <= high or stride < 1:
            raise ConfigurationError(
                f"cron {text!r}: {field!r} is no valid {name}. It takes {low} to {high}, '*', lists (1,2), "
                "ranges (1-5) and steps (*/15)" + ("; Sunday is 0" if name == "weekday" else "")
            )
        allowed.update(range(start, stop + 1, stride))
    return frozenset(allowed)


def _number(word: str, name: str) -> int:
    names = {"month": _MONTHS, "weekday": _WEEKDAYS}.get(name, {})
    return names[word] if word in names else int(word)
