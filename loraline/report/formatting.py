"""Numbers and texts as the pages and the model card show them."""

import math

from loraline.artifacts.training import MaskToken

NONE = "n/a"
_VISIBLE = {" ": "\u00b7", "\t": "\u2192\t", "\n": "\u21b5\n", "\r": "\u240d", "\u00a0": "\u237d"}
_LONGEST_TEXT = 1500


def figure(value: float | str | None) -> str:
    """A number with four significant digits; n/a for None. A text is itself."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def setting(value: object) -> str:
    """A recipe's value, as it is written in YAML."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def signed(value: float | None) -> str:
    """A difference, with its sign."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{'+' if value > 0 else '-'}{figure(abs(value))}"


def interval(lower: float | None, upper: float | None) -> str:
    """The ends of an interval; empty where it has none."""
    return "" if lower is None or upper is None else f"{figure(lower)} to {figure(upper)}"


def duration(seconds: float | None) -> str:
    """Seconds in the units that they fill."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage."""
    return NONE if fraction is None else f"{100 * fraction:.3g}%"


def probability(value: float) -> str:
    """A p-value, with its relation."""
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def shorten(text: str | None) -> str:
    """A text without its end where it is very long."""
    text = text or ""
    omitted = len(text) - _LONGEST_TEXT
    return text if omitted <= 0 else f"{text[:_LONGEST_TEXT]} [{omitted} more characters]"


def visible_text(token: MaskToken) -> str:
    """A token's text with its white space made visible."""
    if token.special:
        return token.text
    return "".join(_VISIBLE.get(character, character) for character in token.text)
