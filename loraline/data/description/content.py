"""Whether what the rows say reaches the tokens that a model is trained on.

A chat template can lose it without an error: one that iterates over a content's parts writes nothing of a content that
is text, and a model then learns empty answers to empty prompts, with a loss that falls. So rows are encoded as training
encodes them, and decoded again.
"""

import heapq
import unicodedata
from collections.abc import Iterator

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import ContentReport, LostText, TextPart
from loraline.data.chat import encode_rows
from loraline.data.chat_tokens import EncodedRow
from loraline.data.description.excerpts import MAX_EXAMPLES, shorten
from loraline.data.messages import last_answer, message_text
from loraline.data.rows import Row

_ROWS = 100
_ROWS_PER_BATCH = 16  # bounds the tokens in memory
_PIECE = 8  # characters: a word that a tokenizer knows in part is found in part, also without spaces between words
_LEAST_FOUND = 0.5  # of a text's characters; what templates strip or write otherwise is less


class ContentChecker:
    """Chooses rows whatever their order, and looks for their texts in their tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._chosen: list[tuple[int, str, Row]] = []  # a heap, the largest id first

    def add(self, row: Row) -> None:
        """Add a row; those with the smallest ids are looked at."""
        entry = (-int(row.id, 16), row.origin, row)
        if len(self._chosen) < _ROWS:
            heapq.heappush(self._chosen, entry)
        elif entry[0] > self._chosen[0][0]:
            heapq.heapreplace(self._chosen, entry)

    def report(self) -> ContentReport:
        """What was found of the rows that were added."""
        rows = [row for *_, row in sorted(self._chosen, key=lambda entry: entry[:2], reverse=True)]
        lost = [
            LostText(origin=row.origin, part=part, text=shorten(text), tokens=shorten(decoded))
            for batch in (rows[i : i + _ROWS_PER_BATCH] for i in range(0, len(rows), _ROWS_PER_BATCH))
            for row, encoded in zip(batch, encode_rows(self._tokenizer, batch), strict=True)
            for part, text, decoded in self._lost(row, encoded)
        ]
        return ContentReport(
            rows=len(rows),
            prompts=sum(bool(_texts(row)[0].strip()) for row in rows),
            without_prompt=sum(one.part == "prompt" for one in lost),
            without_answer=sum(one.part == "completion" for one in lost),
            examples=lost[:MAX_EXAMPLES],
        )

    def _lost(self, row: Row, encoded: EncodedRow) -> Iterator[tuple[TextPart, str, str]]:
        """The parts of a row that its tokens do not have: which, what it says, and what the tokens say."""
        pairs = list(zip(encoded.token_ids, encoded.loss_mask, strict=True))
        everything, answers = [token for token, _ in pairs], [token for token, has_loss in pairs if has_loss]
        prompt, answer = _texts(row)
        parts: list[tuple[TextPart, str, list[int]]] = [
            ("prompt", prompt, everything),
            ("completion", answer, answers),
        ]
        for part, text, tokens in parts:
            decoded = str(self._tokenizer.decode(tokens, skip_special_tokens=False))
            if _found(text, decoded) < _LEAST_FOUND:
                yield part, text, decoded


def _texts(row: Row) -> tuple[str, str]:
    """What is said before a row's last answer by all but the assistant, and that answer, or the tools that it calls."""
    if row.messages is None:
        return "", row.text or ""
    last = last_answer(row.messages)
    asked = [message["content"] or "" for message in row.messages[:last] if message["role"] != "assistant"]
    if last is None:
        return "\n".join(asked), ""
    return "\n".join(asked), row.messages[last]["content"] or message_text(row.messages[last])


def _found(text: str, decoded: str) -> float:
    """The fraction of a text's characters that stand in another, in pieces of words; 1 for an empty text."""
    pieces = [word[i : i + _PIECE] for word in _normalized(text).split() for i in range(0, len(word), _PIECE)]
    written = "".join(_normalized(decoded).split())
    total = sum(map(len, pieces))
    return sum(len(piece) for piece in pieces if piece in written) / total if total else 1.0


def _normalized(text: str) -> str:
    """A text without case and accents, which some tokenizers drop."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in plain if not unicodedata.combining(character))
