"""The patterns of a policy: regular expressions as a person writes them, and texts as a person reads them."""

import re
import unicodedata
from functools import lru_cache

_TYPOGRAPHY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"})
_SPACES = re.compile(
    r"(?P<kept>\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<behind>\(\?<[!=](?:\\.|[^()\\])*\))|(?P<spaces> +)", re.DOTALL
)


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern: the case does not matter, it stands on word boundaries, and a space is any white space.

    So `overdose on pills` finds "Overdose on\\npills", and `dose` does not find "overdosed".

    Raises:
        ValueError: it is not a regular expression, or it would match an empty text, and so every text.
    """
    if "\b" in pattern:
        raise ValueError(r"holds a backspace, which is what YAML makes of \b in double quotes; use single quotes")
    try:
        re.compile(pattern)  # alone first, so that a position in the message is one in the pattern
        compiled = _compile([pattern])
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    if compiled.search(""):
        raise ValueError("matches the empty text, and so everything")
    return compiled


@lru_cache(maxsize=64)
def _compile_any(patterns: tuple[str, ...]) -> list[re.Pattern[str]]:
    """Expressions that together find what any of the patterns finds, at a fifth of the time."""
    alone = [pattern for pattern in patterns if compile_pattern(pattern).groups]  # their groups have numbers
    together = [pattern for pattern in patterns if pattern not in alone]
    return [_compile([one]) for one in alone] + ([_compile(together)] if together else [])


def _compile(patterns: list[str]) -> re.Pattern[str]:
    alternatives = "|".join(f"(?:{_SPACES.sub(_any_space, pattern)})" for pattern in patterns)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


def _any_space(found: re.Match[str]) -> str:
    if found["behind"]:  # what is looked for behind must have one length
        return found["behind"].replace(" ", r"\s")
    quantified = found.string[found.end() : found.end() + 1] in ("?", "*", "+", "{")
    return found["kept"] or (r"(?:\s+)" if quantified else r"\s+")


class Reading:
    """A text as it is read: without what only looks different, with the way back to the text as it was given.

    Compatibility forms (full-width letters, ligatures) become plain ones, invisible characters go, and curly
    quotes become straight ones: Unicode's normal form NFKC (UAX #15), character by character.
    """

    def __init__(self, text: str) -> None:
        self.given = text
        self._offsets: list[int] | None = None
        self.text = text if text.isascii() else self._normalised()

    def _normalised(self) -> str:
        parts: list[str] = []
        offsets: list[int] = []
        for start, cluster in _clusters(self.given):
            plain = unicodedata.normalize("NFKC", cluster).translate(_TYPOGRAPHY)
            plain = "".join(c for c in plain if unicodedata.category(c) != "Cf")
            parts.append(plain)
            offsets += [start] * len(plain)
        self._offsets = [*offsets, len(self.given)]
        return "".join(parts)

    def holds_any(self, patterns: tuple[str, ...]) -> bool:
        """Whether one of the patterns stands in the text."""
        return any(one.search(self.text) for one in _compile_any(patterns))

    def find(self, pattern: str) -> tuple[int, int] | None:
        """Where a pattern first stands: start and end in the given text."""
        found = compile_pattern(pattern).search(self.text)
        if not found:
            return None
        if self._offsets is None:
            return found.span()
        return self._offsets[found.start()], self._offsets[found.end()]


def _clusters(text: str) -> list[tuple[int, str]]:
    """A text's characters with where they start, each together with the marks that combine with it."""
    starts = [i for i, c in enumerate(text) if i == 0 or not unicodedata.combining(c)]
    return [(start, text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
