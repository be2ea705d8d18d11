"""Count what training.max_length cuts off the rows."""

import heapq
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import TruncatedRow, Truncation
from loraline.artifacts.dataset_files import Message
from loraline.data.chat import encode_rows
from loraline.data.description.excerpts import MAX_EXAMPLES
from loraline.data.rows import Row

_ROWS_PER_BATCH = 64
_MARGIN = 1.1  # a text may have a few tokens more in the chat template than by itself


@dataclass
class _Counts:
    rows: int = 0
    tokens_cut: int = 0
    rows_without_answer: int = 0
    worst: list[tuple[bool, int, str, TruncatedRow]] = field(default_factory=list)
    """A heap, the least affected first."""


class TruncationCounter:
    """Counts truncated rows. Only rows that may be too long are encoded as training encodes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._pending: list[Row] = []
        self._counts = _Counts()
        self._template_tokens: dict[tuple[str, ...], int] = {}

    def add(self, row: Row, tokens: int) -> None:
        """Add a train row, with the number of tokens of its contents."""
        if _MARGIN * tokens + self._count_template_tokens(row) > self._max_length:
            self._pending.append(row)
            if len(self._pending) >= _ROWS_PER_BATCH:
                self._flush()

    def _count_template_tokens(self, row: Row) -> int:
        """Number of tokens that the chat template adds to a row with these roles."""
        roles = tuple(turn["role"] for turn in row.messages or [])
        if roles not in self._template_tokens:
            messages: list[Message] = [{"role": role, "content": "a"} for role in roles]
            shortest = Row("", messages or None, None if messages else "a", row.origin)
            self._template_tokens[roles] = len(encode_rows(self._tokenizer, [shortest])[0].token_ids)
        return self._template_tokens[roles]

    def _flush(self) -> None:
        counts = self._counts
        for row, encoded in zip(self._pending, encode_rows(self._tokenizer, self._pending), strict=True):
            tokens = len(encoded.token_ids)
            cut = tokens - self._max_length
            if cut > 0:
                without_answer = not any(encoded.loss_mask[: self._max_length])
                counts.rows += 1
                counts.tokens_cut += cut
                counts.rows_without_answer += without_answer
                example = TruncatedRow(origin=row.origin, tokens=tokens, tokens_cut=cut, without_answer=without_answer)
                heapq.heappush(counts.worst, (without_answer, cut, row.id, example))
                if len(counts.worst) > MAX_EXAMPLES:
                    heapq.heappop(counts.worst)
        self._pending = []

    def report(self) -> Truncation:
        """What is cut off of all rows that were added."""
        self._flush()
        worst = sorted(self._counts.worst, key=lambda entry: entry[:3], reverse=True)
        return Truncation(
            max_length=self._max_length,
            rows=self._counts.rows,
            tokens_cut=self._counts.tokens_cut,
            rows_without_answer=self._counts.rows_without_answer,
            examples=[example for *_, example in worst],
        )
