import pytest

from loraline.units import format_bytes


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (12, "12 bytes"),
        (1536, "1.5 KiB"),
        (5 << 19, "2.5 MiB"),
        (3 << 30, "3.00 GiB"),
        (1500 << 30, "1.46 TiB"),
    ],
)
def test_bytes_are_written_in_binary_units(number: int, text: str) -> None:
    assert format_bytes(number) == text
