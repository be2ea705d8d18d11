"""Cuts plain text into chunks of a number of tokens at most, at sentence ends."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

_PARAGRAPH_LIMIT = 1 << 15  # characters held before a paragraph's end is seen
_SENTENCES_AT_ONCE = 512
_CHUNKS_PER_GROUP = 8
# A full stop after a single letter ("e.g.", "J. S. Bach") or a title ends no sentence.
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Za-z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bMrs)(?<!\bProf)[.!?\u2026][\"')\]\u00bb\u201d\u2019]*(?=\s)"
    r"|[\u3002\uff01\uff1f][\"\u300d\u300f\uff09]*"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a plain text file."""

    line: int
    text: str
    group: str
    """Names the run of chunks that overlap one another, so that a split can keep them together."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    line: int
    text: str
    """With the white space before it, as tokenizers have it."""
    tokens: int


class Chunker:
    """Cuts a text's lines into chunks of at most `limit` tokens that repeat up to `overlap` tokens."""

    def __init__(self, count: Callable[[list[str]], list[int]], limit: int, overlap: int) -> None:
        self._count = count
        self._limit = limit
        self._overlap = overlap

    def chunks(self, lines: Iterable[tuple[int, str]]) -> Iterator[Chunk]:
        """Cut numbered lines (each with its line end) into chunks, in order.

        Every few chunks one begins without overlap and with a group of its own: what is in train then never
        repeats in eval, and one long text can still be split. The group is the text it begins with, so that a
        text which grows at its end keeps its groups.
        """
        group, in_group = "", 0
        for sentences in self._runs(lines):
            text = _joined(sentences)
            if in_group == 0:
                group = text
            yield Chunk(_line_of(sentences[0]), text, group)
            in_group = (in_group + 1) % _CHUNKS_PER_GROUP

    def _runs(self, lines: Iterable[tuple[int, str]]) -> Iterator[list[_Sentence]]:
        held: list[_Sentence] = []
        repeated = emitted = 0
        for sentence in self._sentences(lines):
            while len(held) > repeated and not self._fits([*held, sentence]):
                yield held
                emitted += 1
                held = [] if emitted % _CHUNKS_PER_GROUP == 0 else self._tail(held, sentence)
                repeated = len(held)
            held.append(sentence)
        if len(held) > repeated:
            yield held

    def _fits(self, sentences: list[_Sentence]) -> bool:
        total = sum(sentence.tokens for sentence in sentences)
        if total > self._limit or total < 0.97 * self._limit:
            return total <= self._limit
        # Tokens of the parts may be a few less than those of the whole, which is what counts.
        return self._count([_joined(sentences)])[0] <= self._limit

    def _tail(self, sentences: list[_Sentence], following: _Sentence) -> list[_Sentence]:
        tail: list[_Sentence] = []
        for sentence in reversed(sentences):
            longer = [sentence, *tail]
            if sum(part.tokens for part in longer) > self._overlap or not self._fits([*longer, following]):
                break
            tail = longer
        return tail

    def _sentences(self, lines: Iterable[tuple[int, str]]) -> Iterator[_Sentence]:
        pieces = _split_sentences(lines)
        while batch := list(islice(pieces, _SENTENCES_AT_ONCE)):
            counts = self._count([text for _, text in batch])
            for (line, text), tokens in zip(batch, counts, strict=True):
                yield from self._halved(_Sentence(line, text, tokens))

    def _halved(self, sentence: _Sentence) -> Iterator[_Sentence]:
        """Give a sentence that fits; cut a longer one near its middle, at white space where there is any."""
        if sentence.tokens <= self._limit or len(sentence.text) < 2:
            yield sentence
            return
        middle = len(sentence.text) // 2
        space = max(sentence.text.rfind(" ", 1, middle), sentence.text.rfind("\n", 1, middle))
        cut = space if space > 0 else middle
        parts = sentence.text[:cut], sentence.text[cut:]
        line = sentence.line
        for part, tokens in zip(parts, self._count(list(parts)), strict=True):
            yield from self._halved(_Sentence(line, part, tokens))
            line += part.count("\n")


def _joined(sentences: list[_Sentence]) -> str:
    return "".join(sentence.text for sentence in sentences).strip()


def _line_of(sentence: _Sentence) -> int:
    space = len(sentence.text) - len(sentence.text.lstrip())
    return sentence.line + sentence.text[:space].count("\n")


def _split_sentences(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Give each sentence with the line on which it begins; joined, they are the text without outer white space."""
    held, start = "", 1
    for number, line in lines:
        if not held:
            start = number
        held += line
        if line.strip() and len(held) < _PARAGRAPH_LIMIT:
            continue
        *sentences, held = _cut(held)
        if held.strip() and (not sentences or not line.strip()):
            sentences, held = [*sentences, held], ""
        for sentence in sentences:
            yield start, sentence
            start += sentence.count("\n")
    for sentence in _cut(held):
        if sentence.strip():
            yield start, sentence
        start += sentence.count("\n")


def _cut(text: str) -> list[str]:
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]
