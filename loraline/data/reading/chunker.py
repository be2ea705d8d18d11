"""Cut plain text at sentence ends into chunks of a limited number of tokens."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TextIO

_MAX_LINE_CHARACTERS = 1 << 16  # a longer line is read in pieces
_MAX_PARAGRAPH_CHARACTERS = 1 << 15  # held in memory before the paragraph ends
_SENTENCES_PER_BATCH = 512
_CHUNKS_PER_GROUP = 8
# A full stop after a single letter ("e.g.", "J. S. Bach") or a title ends no sentence.
_SENTENCE_END = re.compile(
    r"(?<!\b[A-Za-z])(?<!\bMr)(?<!\bMs)(?<!\bDr)(?<!\bMrs)(?<!\bProf)[.!?\u2026][\"')\]\u00bb\u201d\u2019]*(?=\s)"
    r"|[\u3002\uff01\uff1f][\"\u300d\u300f\uff09]*"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a plain text."""

    line: int
    """Line of the text on which the chunk begins, from 1."""
    text: str
    group: str
    """Chunks that overlap have the same group, so that a split can keep them together."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    line: int
    text: str
    """With the preceding white space, which tokenizers encode with the word after it."""
    tokens: int


def numbered_lines(text: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text with their line ends, numbered from 1; very long lines in several pieces."""
    number = 1
    while line := text.readline(_MAX_LINE_CHARACTERS):
        yield number, line
        number += line.endswith("\n")


class Chunker:
    """Cuts text into chunks of at most `limit` tokens that repeat up to `overlap` tokens of the chunk before."""

    def __init__(self, count: Callable[[list[str]], list[int]], limit: int, overlap: int) -> None:
        self._count = count
        self._limit = limit
        self._overlap = overlap

    def chunk_long(self, texts: list[str]) -> list[list[Chunk]]:
        """Chunk those of several texts that have more tokens than a chunk may; the list of the others is empty."""
        # A token is at least one byte: shorter texts need not be tokenized.
        uncertain = [text for text in texts if len(text.encode()) > self._limit]
        tokens = dict(zip(uncertain, self._count(uncertain), strict=True)) if uncertain else {}
        return [
            list(self.chunks(numbered_lines(io.StringIO(text)))) if tokens.get(text, 0) > self._limit else []
            for text in texts
        ]

    def chunks(self, lines: Iterable[tuple[int, str]]) -> Iterator[Chunk]:
        """Cut numbered lines (each with its line end) into chunks, in order.

        Every eighth chunk starts a new group and has no overlap with the chunk before: train then never repeats text
        of eval, and one long text can still be split. A group is named by the text of its first chunk, so that text
        added at the end leaves the groups unchanged.
        """
        group, in_group = "", 0
        for sentences in self._sentence_runs(lines):
            text = _joined(sentences)
            if in_group == 0:
                group = text
            yield Chunk(_line_of(sentences[0]), text, group)
            in_group = (in_group + 1) % _CHUNKS_PER_GROUP

    def _sentence_runs(self, lines: Iterable[tuple[int, str]]) -> Iterator[list[_Sentence]]:
        pending: list[_Sentence] = []
        repeated = yielded = 0
        for sentence in self._sentences(lines):
            while len(pending) > repeated and not self._fits([*pending, sentence]):
                yield pending
                yielded += 1
                pending = [] if yielded % _CHUNKS_PER_GROUP == 0 else self._tail(pending, sentence)
                repeated = len(pending)
            pending.append(sentence)
        if len(pending) > repeated:
            yield pending

    def _fits(self, sentences: list[_Sentence]) -> bool:
        total = sum(sentence.tokens for sentence in sentences)
        if total > self._limit or total < 0.97 * self._limit:
            return total <= self._limit
        # The sentences may have a few tokens less by themselves than joined. What counts is the joined text.
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
        while batch := list(islice(pieces, _SENTENCES_PER_BATCH)):
            counts = self._count([text for _, text in batch])
            for (line, text), tokens in zip(batch, counts, strict=True):
                yield from self._split_long(_Sentence(line, text, tokens))

    def _split_long(self, sentence: _Sentence) -> Iterator[_Sentence]:
        """Yield a sentence that fits; halve a longer one, at white space if possible, until the parts fit."""
        if sentence.tokens <= self._limit or len(sentence.text) < 2:
            yield sentence
            return
        middle = len(sentence.text) // 2
        space = max(sentence.text.rfind(" ", 1, middle), sentence.text.rfind("\n", 1, middle))
        cut = space if space > 0 else middle
        parts = sentence.text[:cut], sentence.text[cut:]
        line = sentence.line
        for part, tokens in zip(parts, self._count(list(parts)), strict=True):
            yield from self._split_long(_Sentence(line, part, tokens))
            line += part.count("\n")


def _joined(sentences: list[_Sentence]) -> str:
    return "".join(sentence.text for sentence in sentences).strip()


def _line_of(sentence: _Sentence) -> int:
    space = len(sentence.text) - len(sentence.text.lstrip())
    return sentence.line + sentence.text[:space].count("\n")


def _split_sentences(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its first line. Joined, they are the text without leading and trailing white space."""
    pending, start = "", 1
    for number, line in lines:
        if not pending:
            start = number
        pending += line
        if line.strip() and len(pending) < _MAX_PARAGRAPH_CHARACTERS:
            continue
        *sentences, pending = _cut_at_sentence_ends(pending)
        if pending.strip() and (not sentences or not line.strip()):
            sentences, pending = [*sentences, pending], ""
        for sentence in sentences:
            yield start, sentence
            start += sentence.count("\n")
    for sentence in _cut_at_sentence_ends(pending):
        if sentence.strip():
            yield start, sentence
        start += sentence.count("\n")


def _cut_at_sentence_ends(text: str) -> list[str]:
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends)]
