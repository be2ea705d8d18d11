"""Cron as KFP reads it."""

from datetime import UTC, datetime
from itertools import islice

import pytest

from loraline.errors import ConfigurationError
from pipelines.client.cron import parse_cron

_FRIDAY = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def _next(text: str, count: int = 3) -> list[str]:
    return [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in islice(parse_cron(text).after(_FRIDAY), count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 2 * * *", ["2026-11-21 02:00:00", "2026-11-22 02:00:00", "2026-11-23 02:00:00"]),
        ("0 */15 * * * *", ["2026-11-20 12:45:00", "2026-11-20 13:00:00", "2026-11-20 13:15:00"]),
        ("30 5/20 12 * * ?", ["2026-11-20 12:45:30", "2026-11-21 12:05:30", "2026-11-21 12:25:30"]),
        ("0 0 9 ? * mon-wed,5", ["2026-11-23 09:00:00", "2026-11-24 09:00:00", "2026-11-25 09:00:00"]),
        ("0 0 0 1 jan,JUL *", ["2027-01-01 00:00:00", "2027-07-01 00:00:00", "2028-01-01 00:00:00"]),
        ("0 0 9 5-5 * *", ["2026-12-05 09:00:00", "2027-01-05 09:00:00", "2027-02-05 09:00:00"]),
        # A step goes on to the field's end; Saturday is the last day of the week.
        ("0 0 9 * * 1/2", ["2026-11-23 09:00:00", "2026-11-25 09:00:00", "2026-11-27 09:00:00"]),
        ("0 0 9 * * tue/2,sun", ["2026-11-21 09:00:00", "2026-11-22 09:00:00", "2026-11-24 09:00:00"]),
        ("0 0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("@weekly", ["2026-11-22 00:00:00", "2026-11-29 00:00:00", "2026-12-06 00:00:00"]),
        # Both days limited: either is enough, as in the cron library that KFP uses.
        ("0 0 0 25 * 0", ["2026-11-22 00:00:00", "2026-11-25 00:00:00", "2026-11-29 00:00:00"]),
    ],
)
def test_it_fires_when_kfp_would(text: str, expected: list[str]) -> None:
    assert _next(text)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("text", "meant"),
    [("0 2 * * *", "0 0 2 * * *"), ("30 4 1,15 * 7", "0 30 4 1,15 * 0"), ("* * * * *", "0 * * * * *")],
)
def test_five_fields_are_refused_and_the_six_that_were_meant_are_named(text: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_cron(text)
    assert "seconds first" in str(error.value)
    assert repr(meant) in str(error.value)
    assert parse_cron(meant).text == meant


def test_five_fields_are_shown_as_kfp_would_read_them() -> None:
    with pytest.raises(ConfigurationError, match="minute 2, every hour"):
        parse_cron("0 2 * * *")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 60 * * * *", "'60' is no valid minute. It takes 0 to 59"),
        ("0 0 2 * * 7", "'7' is no valid weekday.*Sunday is 0"),
        ("0 0 2 0 * *", "no valid day"),
        ("0 0 2 5-1 * *", "no valid day"),
        ("0 0 2 * foo *", "no valid month"),
        ("0 0/0 2 * * *", "no valid minute"),
        ("0 0 2 5-5/2 * *", "no valid day"),
        ("0 0 2 L * *", "no valid day"),
        ("0 0 2 LW * *", "no valid day"),
        ("0 0 2 15W * *", "no valid day"),
        ("0 0 2 * * fri-mon", "no valid weekday"),
        ("0 0 2 * * 5L", "no valid weekday"),
        ("0 0 2 * * 5#2", "no valid weekday"),
        ("0 0 2 * * 1,", "no valid weekday"),
        ("H 0 2 * * *", "no valid second"),
        ("0 0 2 * * * 2027", "7 fields"),
        ("0 0 0 31 2 *", "never fires"),
        ("* 0 2 * * *", "every 1 s.*'0 0 2 \\* \\* \\*'"),
        ("@every 1h", "2 fields"),
        ("", "0 fields"),
    ],
)
def test_what_kfp_could_not_mean_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_cron(text)
