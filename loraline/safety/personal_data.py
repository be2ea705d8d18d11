"""Personal data in text: e-mail, phone, card, IBAN and social security numbers, IP addresses, secret keys.

Patterns alone have many false positives, so checksums and formats are verified: a card by issuer prefix and Luhn
digit (ISO/IEC 7812), an IBAN by its country's length and mod 97 (ISO 13616), an IP address must be public. Names
and street addresses are not searched for: that takes a model, with too many errors to drop rows by.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("key", "email", "iban", "card", "ssn", "ip", "phone")
"""Kinds of personal data. Of overlapping matches the kind that comes first here is kept."""


@dataclass(frozen=True, slots=True)
class Span:
    """One match: `text[start:end]`."""

    kind: str
    start: int
    end: int


# None begins with \b, which is checked afterwards: a pattern that begins with a literal is searched much faster.
_KEY = re.compile(
    r"-----BEGIN (?P<type>[A-Z ]*)PRIVATE KEY(?: BLOCK)?-----[\s\S]{0,20000}?"
    r"(?:-----END (?P=type)PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|gh[opsur]_[A-Za-z0-9]{36,255}\b|github_pat_\w{22,255}\b|glpat-[\w-]{20,64}"  # GitHub, GitLab
    r"|sk-(?=[\w-]{0,200}\d)(?:[a-z0-9]+-)*[A-Za-z0-9_-]{20,200}"  # OpenAI, Anthropic and compatible
    r"|hf_[A-Za-z0-9]{30,64}\b|AIza[\w-]{35}\b|xox[abprs]-[\w-]{10,200}"  # Hugging Face, Google, Slack
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}\b"  # Stripe
    r"|eyJ[\w-]{8,4000}\.eyJ[\w-]{8,4000}\.[\w-]{8,4000}"  # JSON Web Token
)
_KEY_MARKERS = (
    "PRIVATE KEY", "AKIA", "ASIA", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "sk-", "hf_",
    "AIza", "xox", "k_live_", "k_test_", "eyJ",
)  # fmt: skip
_EMAIL = re.compile(
    r"(?<![\w.+-])(?!git@)[A-Za-z0-9][\w.%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![\w-])"
)
_SEVERAL_DIGITS = re.compile(r"\d(?:[ ./()-]{0,2}\d){6}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2} ?[A-Z0-9]{2}")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_ISSUER = re.compile(  # Visa, Mastercard twice, American Express, Diners, JCB, Discover and UnionPay, Maestro
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|(?:6011|64[4-9]\d|6[25]\d\d)\d{12,15}|5[0678]\d{14}"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
# The text before is checked afterwards: a pattern that begins with a digit is searched much faster.
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")
_DOTTED = re.compile(r"\.\d{1,3}\.\d")
_NO_IPV4_AFTER = re.compile(r"(?:[\w.-]|[vV] |[vV]ersion )\Z")
_IPV6 = re.compile(r"(?<![\w:])[23][0-9a-fA-F]{3}:[0-9a-fA-F:]{2,34}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w+.,])(?:"
    r"\+[1-9](?:[ ./()-]{0,2}\d){7,14}"  # international
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])\d{3}[ .-]\d{4}"  # North America
    r"|(?<!\d )(?!\d\d[-/ ]\d\d[-/ ](?:19|20)\d\d(?!\d))0[1-9]\d{0,3}[ /-]\d{2,8}(?:[ -]\d{2,8}){0,4}"  # with a trunk 0
    r"|(?<=hone )\d(?:[ .-]?\d){6,12}|(?<=hone: )\d(?:[ .-]?\d){6,12}|(?<=[Tt]el: )\d(?:[ .-]?\d){6,12}"  # named so
    r")(?![\w/:+*=-]|[.,]\d| \d| ?[=*+] ?\d)"
)
_IBAN_COUNTRIES = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN_LENGTHS = {country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()}


def find_personal_data(text: str) -> list[Span]:
    """Find personal data and secrets: non-overlapping spans in the order of the text."""
    spans: list[Span] = []
    for kind, start, end in _candidates(text):
        if not any(start < span.end and span.start < end for span in spans):
            spans.append(Span(kind, start, end))
    return sorted(spans, key=lambda span: span.start)


def mask_personal_data(text: str) -> str:
    """Replace personal data with `[EMAIL]`, `[PHONE]` and so on."""
    parts, done = [], 0
    for span in find_personal_data(text):
        parts += [text[done : span.start], f"[{span.kind.upper()}]"]
        done = span.end
    return "".join([*parts, text[done:]]) if parts else text


def _candidates(text: str) -> Iterator[tuple[str, int, int]]:
    """Verified matches in the order of KINDS. Cheap tests come first, because most texts have none."""
    if any(map(text.__contains__, _KEY_MARKERS)):  # three times as fast as a generator
        yield from (("key", *match.span()) for match in _KEY.finditer(text) if _begins_word(text, match.start()))
    if "@" in text:
        yield from (("email", *match.span()) for match in _EMAIL.finditer(text))
    numbers = _SEVERAL_DIGITS.search(text)
    if numbers:
        yield from (("iban", *span) for match in _IBAN.finditer(text) if (span := _iban(text, match.start())))
        yield from (("card", *match.span()) for match in _CARD.finditer(text) if _is_card(match[0]))
        yield from (("ssn", *match.span()) for match in _SSN.finditer(text))
    if _DOTTED.search(text):
        yield from (("ip", *match.span()) for match in _IPV4.finditer(text) if _is_address(text, match))
    if text.count(":") >= 3:
        yield from (("ip", *match.span()) for match in _IPV6.finditer(text) if _is_public(match[0]))
    if numbers:
        yield from (("phone", *match.span()) for match in _PHONE.finditer(text) if _is_phone(match[0]))


def _begins_word(text: str, start: int) -> bool:
    return start == 0 or not (text[start - 1].isalnum() or text[start - 1] == "_")


def _iban(text: str, start: int) -> tuple[int, int] | None:
    """Start and end of the IBAN that begins at `start`, if it is valid for its country."""
    length = _IBAN_LENGTHS.get(text[start : start + 2])
    if not length:
        return None
    match = re.compile(rf"(?:[A-Z0-9] ?){{{length - 1}}}[A-Z0-9](?![A-Za-z0-9])").match(text, start)
    if not match:
        return None
    compact = match[0].replace(" ", "")
    return match.span() if int("".join(str(int(one, 36)) for one in compact[4:] + compact[:4])) % 97 == 1 else None


def _is_card(number: str) -> bool:
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits), 1)]
    compact = "".join(map(str, digits))
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1 and bool(_ISSUER.fullmatch(compact))


def _is_address(text: str, match: re.Match[str]) -> bool:
    """Whether a match is a public IP address and not a version number."""
    before = text[max(0, match.start() - 8) : match.start()]
    return _is_public(match[0]) and not _NO_IPV4_AFTER.search(before)


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _is_phone(number: str) -> bool:
    digits = "".join(filter(str.isdigit, number))
    # E.164 allows fifteen digits; a number of one or two different digits is a placeholder.
    return (7 if not number.startswith("0") else 9) <= len(digits) <= 15 and len(set(digits)) > 2
