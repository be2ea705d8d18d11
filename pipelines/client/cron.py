"""Cron expressions in KFP's dialect: six fields, seconds first, as the Go package robfig/cron reads them.

cronsim computes the times. What it takes and KFP does not is refused here: five fields, Sunday as 7, `L`, `#`, and a
step on a range of one value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from cronsim import CronSim, CronSimError

from loraline.errors import ConfigurationError

TIME_ZONE = "UTC"
"""KFP's default. An installation may set another (cronScheduleTimezone), which its API does not report."""

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_WEEKDAYS = "sun|mon|tue|wed|thu|fri|sat"
_FIELDS = {
    "second": (r"\d+", "0 to 59"),
    "minute": (r"\d+", "0 to 59"),
    "hour": (r"\d+", "0 to 23"),
    "day": (r"\d+", "1 to 31"),
    "month": (rf"\d+|{_MONTHS}", "1 to 12"),
    "weekday": (rf"[0-6]|{_WEEKDAYS}", "0 to 6"),
}
"""Of each field: a value, as a regular expression; the range of its numbers, in words."""
_SHORTHANDS = {
    "@hourly": "0 0 * * * *",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
}
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """A valid cron expression."""

    text: str
    """Six fields, as KFP takes them."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times at which it fires after a moment, in that moment's time zone."""
        return CronSim(_for_cronsim(self.text.split()), moment)


def parse_cron(text: str) -> Cron:
    """Check a cron expression.

    Raises:
        ConfigurationError: it does not have six valid fields, never fires, or fires more than once a minute.
    """
    fields = _SHORTHANDS.get(text.strip().lower(), text).split()
    if len(fields) == 5:
        raise ConfigurationError(_five_fields(text, fields))
    if len(fields) != 6:
        raise ConfigurationError(
            f"cron {text!r} has {len(fields)} fields; KFP's has six: second minute hour day month weekday, "
            "such as '0 0 2 * * *' for every day at 02:00"
        )
    for number, (name, field) in enumerate(zip(_FIELDS, fields, strict=True)):
        _check_field(text, number, name, field)
    cron = Cron(" ".join(fields))
    try:
        first, second = islice(cron.after(_ANY_DAY), 2)
    except (CronSimError, ValueError) as error:
        raise ConfigurationError(f"cron {text!r} never fires: no month has such a day") from error
    if second - first < _SHORTEST:
        raise ConfigurationError(
            f"cron {text!r} fires every {(second - first).seconds} s. The first field is the second: "
            f"write {' '.join(['0', *fields[1:]])!r} to fire once in each minute that the other fields select"
        )
    return cron


def _five_fields(text: str, fields: list[str]) -> str:
    meant = " ".join(["0", *fields[:4], re.sub(r"\b7\b", "0", fields[4])])
    meaning = ", ".join(
        f"every {name}" if value in ("*", "?") else f"{name} {value}"
        for name, value in zip(_FIELDS, fields, strict=False)
    )
    return (
        f"cron {text!r} has five fields. KFP would accept it and read it with seconds first: {meaning}. "
        f"Write six fields; you most likely mean {meant!r}"
    )


def _check_field(text: str, number: int, name: str, field: str) -> None:
    """Raise a ConfigurationError if a field is not valid in KFP's dialect, or out of range."""
    value, bounds = _FIELDS[name]
    part = rf"((\*|\?|({value})(-({value}))?)(/\d+)?)"
    alone = ["*"] * len(_FIELDS)
    alone[number] = field
    try:
        if not re.fullmatch(f"{part}(,{part})*", field, re.IGNORECASE) or re.search(r"\b(\w+)-\1/", field):
            raise CronSimError(field)
        CronSim(_for_cronsim(alone), _ANY_DAY)
    except CronSimError as error:
        raise ConfigurationError(
            f"cron {text!r}: {field!r} is no valid {name}. It takes {bounds}, '*', lists (1,2), "
            "ranges (1-5) and steps (*/15)" + ("; Sunday is 0" if name == "weekday" else "")
        ) from error


def _for_cronsim(fields: list[str]) -> str:
    """The same schedule for cronsim, which has no `?` and in whose week a step goes up to 7."""
    *others, weekday = (field.replace("?", "*") for field in fields)
    return " ".join([*others, re.sub(r"(^|,)(\w+)/", r"\1\2-6/", weekday)])
