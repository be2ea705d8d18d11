"""Numbers of bytes as text."""

_UNITS = (("TiB", 40, 2), ("GiB", 30, 2), ("MiB", 20, 1), ("KiB", 10, 1))


def format_bytes(number: float) -> str:
    """Write a number of bytes in binary units, such as `2.50 GiB`, `14.0 MiB` or `12 bytes`."""
    for unit, bits, decimals in _UNITS:
        if number >= 2**bits:
            return f"{number / 2**bits:,.{decimals}f} {unit}"
    return f"{number:.0f} bytes"
