"""Personal data are found by kind, and lookalikes are not."""

import itertools
import random

import pytest

from loraline.safety.personal_data import KINDS, Span, find_personal_data, mask_personal_data

_PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("kind", "datum"),
    [
        ("email", "jane.doe+news@mail.example.org"),
        ("phone", "+49 30 1234567"),
        ("phone", "+442079460958"),
        ("phone", "(212) 555-0142"),
        ("phone", "1-212-555-0142"),
        ("phone", "030 12345678"),
        ("phone", "0171/1234567"),
        ("phone", "01 23 45 67 89"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "378282246310005"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB29NWBK60161331926819"),
        ("iban", "NO93 8601 1117 947"),
        ("ssn", "123-45-6789"),
        ("ip", "108.170.1.1"),
        ("ip", "2001:4860:4860::8888"),
        ("key", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "ghp_" + "a1B2" * 9),
        ("key", "sk-proj-abc123def456ghi789jkl"),
        ("key", "hf_" + "aBcD" * 9),
        ("key", _JWT),
        ("key", _PEM),
    ],
)
def test_personal_data_are_found_in_any_context(kind: str, datum: str) -> None:
    for before, after in (("", ""), ("It is ", "."), ("(", ")"), ("see\n", "\nand"), ("\u00e9: ", ", then")):
        text = before + datum + after
        assert find_personal_data(text) == [Span(kind, len(before), len(before) + len(datum))], text
        assert mask_personal_data(text) == f"{before}[{kind.upper()}]{after}"


@pytest.mark.parametrize(
    "text",
    [
        "48/2 = <<48/2=24>>24 and 20+30+40+5000000",
        "1994-05-03, 03/05/1994, 01-02-2003 12:30, 2020-01-01T00:00:00",
        "version 8.8.8.8, v8.8.8.8, 8.8.8.8.8 and 300.1.1.1",
        "127.0.0.1, 192.168.1.10, 10.0.0.1, ::1 and fe80::1",
        "std::vector<a::b> at 12:30:45",
        "4111 1111 1111 1112",  # the Luhn digit is wrong
        "1234 5678 9012 3452",  # no issuer has these
        "DE89 3704 0044 0532 0130 01, XX89370400440532013000",
        "git@github.com:owner/name.git, a@b, @someone",
        "1,234,567,890 or 3.14159265358979 or 2010 2011 2012 2013",
        "978-3-16-148410-0, 9780306406157, 10.1038/s41586-020-2649-2",
        "550e8400-e29b-41d4-a716-446655440000",
        "a task-oriented-approach-to-2024, desk-bound; sk-learn-is-a-library-and-not-a-key",
        "000-12-3456, 666-12-3456, 123-00-4567",
        "the eyJ of a token, the BEGIN of a PRIVATE KEY",
    ],
)
def test_lookalikes_do_not_match(text: str) -> None:
    assert find_personal_data(text) == []
    assert mask_personal_data(text) == text


def test_matches_are_in_text_order() -> None:
    text = "Call +49 30 1234567 or write to a.b@c.org about DE89370400440532013000 from 8.8.8.8."
    assert [span.kind for span in find_personal_data(text)] == ["phone", "email", "iban", "ip"]
    assert mask_personal_data(text) == "Call [PHONE] or write to [EMAIL] about [IBAN] from [IP]."


def test_matches_do_not_overlap() -> None:
    pieces = [
        _PEM,
        _JWT,
        "jane@x.org",
        "+49 30 1234567",
        "4111 1111 1111 1111",
        "DE89370400440532013000",
        "8.8.8.8",
        " ",
    ]
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choices(pieces, k=6))
        spans = find_personal_data(text)
        assert all(one.end <= other.start for one, other in itertools.pairwise(spans))
        assert all(span.kind in KINDS and span.start < span.end <= len(text) for span in spans)


def test_random_numbers_rarely_match() -> None:
    draw = random.Random(2)
    numbers = ["".join(draw.choices("0123456789", k=16)) for _ in range(2000)]
    assert sum(bool(find_personal_data(number)) for number in numbers) < 80  # Luhn alone lets 200 pass


def test_adversarial_texts_cause_no_exponential_backtracking() -> None:
    for text in ("a" * 200_000, "1 " * 100_000, "a@" * 100_000, "-----BEGIN PRIVATE KEY-----" * 2000, "sk-" * 50_000):
        find_personal_data(text)  # patterns that try every way to cut a text would not end
