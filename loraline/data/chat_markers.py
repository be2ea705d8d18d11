"""The markers that chat templates put around reasoning, such as `<think>` and `</think>`."""

import re

_NAME = r"\w*(?:think|reason|thought)\w*"
_OPENING = re.compile(rf"<((?:\w+:)?{_NAME})>|\[({_NAME})\]|<\|START_({_NAME})\|>", re.IGNORECASE)


def closing_marker(opening: str) -> str:
    """The marker that ends what `opening` begins."""
    if opening.startswith("<|"):
        return opening.replace("START_", "END_")
    return f"{opening[0]}/{opening[1:]}"


def opening_markers(text: str) -> list[str]:
    """The opening markers in a text whose closing marker is in it, too; each once, in order."""
    found = dict.fromkeys(match[0] for match in _OPENING.finditer(text))
    return [marker for marker in found if closing_marker(marker) in text]


def open_marker(text: str) -> str:
    """The opening marker at the end of a text that no closing marker follows, with white space after it; else ""."""
    found = list(_OPENING.finditer(text))
    return text[found[-1].start() :] if found and not text[found[-1].end() :].strip() else ""


def is_reasoning_block(text: str) -> bool:
    """Whether a text is an opening marker, with or without its closing marker, and white space alone."""
    match = _OPENING.match(text.lstrip())
    return match is not None and text.strip().removeprefix(match[0]).strip() in ("", closing_marker(match[0]))


def split_reasoning(text: str, opened: str = "") -> tuple[str | None, str]:
    """Split an answer into its reasoning and the rest; the reasoning is None where there is none.

    Args:
        text: the answer.
        opened: the opening marker, where the prompt ends with it. Reasoning without its end is all of the answer then.
    """
    start = _OPENING.match(text.lstrip())
    marker = start[0] if start else opened.strip()
    if not marker:
        return None, text
    body = text.lstrip().removeprefix(marker)
    reasoning, closing, rest = body.partition(closing_marker(marker))
    return reasoning.strip(), rest.strip() if closing else ""


def common_start(one: str, other: str) -> str:
    """The characters with which both texts begin."""
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def common_end(one: str, other: str) -> str:
    """The characters with which both texts end."""
    return common_start(one[::-1], other[::-1])[::-1]
