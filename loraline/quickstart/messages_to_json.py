"""The built-in dataset `messages`: short messages, and what they say as JSON.

Orders, appointments and invoices are written in many phrasings; numbers, times and dates stand in them as people write
them, and in the JSON in one form: 3 for "three", "15:30" for "half past three in the afternoon". The held-out messages
(`messages-held-out`) have other sentences, names, goods and companies, so that a score on them is not recall. All
random choices have fixed seeds.
"""

import datetime
import json
import random
from collections.abc import Callable, Iterator

from loraline.quickstart import message_texts as texts

Fields = dict[str, str | int | float]

_ROWS, _HELD_OUT_ROWS = 2400, 120
_SEED, _HELD_OUT_SEED = 30, 31
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_QUANTITIES = (
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "a dozen",
)  # fmt: skip
_HOURS = (
    "twelve", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
)  # fmt: skip
_FIRST_DAY = datetime.date(2026, 1, 1)


def training_messages() -> Iterator[dict[str, str]]:
    """Rows to fine-tune on, with `prompt` and `completion`."""
    return _rows(_ROWS, _SEED, held_out=0)


def held_out_messages() -> Iterator[dict[str, str]]:
    """Rows to evaluate on, whose sentences and words do not occur in those to fine-tune on."""
    return _rows(_HELD_OUT_ROWS, _HELD_OUT_SEED, held_out=1)


def _rows(count: int, seed: int, held_out: int) -> Iterator[dict[str, str]]:
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        message, fields = rng.choice((_order, _appointment, _invoice))(rng, held_out)
        if message not in seen:
            seen.add(message)
            keys = ", ".join(fields)
            yield {
                "prompt": f"Write this message as JSON with the keys {keys}:\n{message}",
                "completion": json.dumps(fields),
            }


def _order(rng: random.Random, held_out: int) -> tuple[str, Fields]:
    quantity = rng.randint(2, 12)
    day = rng.choice(_DAYS)
    name, product = _name(rng, held_out), rng.choice(texts.PRODUCTS[held_out])
    written = rng.choice((str(quantity), _QUANTITIES[quantity - 2]))
    message = rng.choice(texts.ORDERS[held_out]).format(
        name=name, product=product, quantity=written, day=_before(rng, day), Day=day
    )
    return message, {"customer": name, "product": product, "quantity": quantity, "day": day}


def _appointment(rng: random.Random, held_out: int) -> tuple[str, Fields]:
    hour, minute = rng.randint(8, 19), rng.choice((0, 15, 30, 45))
    day, written = rng.choice(_DAYS), rng.choice(_TIMES)(hour, minute)
    name, service = _name(rng, held_out), rng.choice(texts.SERVICES[held_out])
    message = rng.choice(texts.APPOINTMENTS[held_out]).format(
        name=name, service=service, day=day, Day=day, time=written, Time=written[0].upper() + written[1:]
    )
    return message, {"name": name, "service": service, "day": day, "time": f"{hour:02}:{minute:02}"}


def _invoice(rng: random.Random, held_out: int) -> tuple[str, Fields]:
    due = _FIRST_DAY + datetime.timedelta(days=rng.randrange(700))
    amount = rng.randrange(40, 5000) + rng.choice((0, 0, 0.5, 0.25, 0.99))
    company = rng.choice(texts.COMPANIES[held_out])
    number = rng.choice(("INV-{}", "{}", "R{}", "2026/{}")).format(rng.randrange(1000, 99999))
    message = rng.choice(texts.INVOICES[held_out]).format(
        number=number, company=company, amount=rng.choice(_AMOUNTS)(amount), due=rng.choice(_DATES)(due)
    )
    return message, {
        "company": company,
        "invoice": number,
        "amount": amount if amount % 1 else int(amount),
        "due": due.isoformat(),
    }


def _name(rng: random.Random, held_out: int) -> str:
    return f"{rng.choice(texts.FIRST_NAMES[held_out])} {rng.choice(texts.LAST_NAMES[held_out])}"


def _before(rng: random.Random, day: str) -> str:
    return rng.choice((day, f"next {day}"))


def _spoken_time(hour: int, minute: int) -> str:
    """As in `half past three in the afternoon`."""
    name, next_name = _HOURS[hour % 12], _HOURS[(hour + 1) % 12]
    spoken = {0: name, 15: f"a quarter past {name}", 30: f"half past {name}", 45: f"a quarter to {next_name}"}[minute]
    return f"{spoken} in the {'morning' if hour < 12 else 'afternoon' if hour < 18 else 'evening'}"


_TIMES: tuple[Callable[[int, int], str], ...] = (
    lambda hour, minute: f"{hour}:{minute:02}",
    lambda hour, minute: f"{(hour - 1) % 12 + 1}:{minute:02} {'am' if hour < 12 else 'pm'}",
    lambda hour, minute: f"{(hour - 1) % 12 + 1}.{minute:02}{'am' if hour < 12 else 'pm'}",
    _spoken_time,
)
_AMOUNTS: tuple[Callable[[float], str], ...] = (
    lambda amount: f"${amount:,.2f}",
    lambda amount: f"{amount:.2f} euros",
    lambda amount: f"USD {amount:,.2f}",
    lambda amount: f"{amount:.2f} dollars" if amount % 1 else f"{amount:.0f} dollars",
)
_DATES: tuple[Callable[[datetime.date], str], ...] = (
    lambda day: f"{day.day} {day:%B} {day.year}",
    lambda day: f"{day:%B} {day.day}, {day.year}",
    lambda day: f"{day.day} {day:%b} {day.year}",
    lambda day: day.isoformat(),
)
