"""What training cuts off the rows that are longer than it reads."""

import heapq

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import TruncatedRow, Truncation
from loraline.data.chat import encode_rows
from loraline.data.description.excerpts import EXAMPLES
from loraline.data.rows import Row

_ROWS_AT_ONCE = 64
_SLACK = 1.1  # a text in a template may take a few tokens more or less than by itself


class TruncationMeter:
    """Measures what training cuts off. Only rows that may be too long are encoded as training encodes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._limit = max_length
        self._waiting: list[Row] = []
        self._found = Truncation(max_length=max_length)
        self._frames: dict[tuple[str, ...], int] = {}
        self._worst: list[tuple[bool, int, str, TruncatedRow]] = []

    def add(self, row: Row, tokens: int) -> None:
        """Take in a row to train on and how many tokens its contents have by themselves."""
        if _SLACK * tokens + self._frame(row) > self._limit:
            self._waiting.append(row)
            if len(self._waiting) >= _ROWS_AT_ONCE:
                self._flush()

    def _frame(self, row: Row) -> int:
        """How many tokens the template puts around the contents of a row with these roles."""
        roles = tuple(turn["role"] for turn in row.messages or [])
        if roles not in self._frames:
            bare = Row("", [{"role": role, "content": "a"} for role in roles], None, row.origin)
            empty = Row("", None, "a", row.origin)
            self._frames[roles] = len(encode_rows(self._tokenizer, [bare if roles else empty])[0].token_ids)
        return self._frames[roles]

    def _flush(self) -> None:
        for row, encoded in zip(self._waiting, encode_rows(self._tokenizer, self._waiting), strict=True):
            tokens = len(encoded.token_ids)
            cut = tokens - self._limit
            if cut > 0:
                answerless = not any(encoded.loss_mask[: self._limit])
                self._found.rows += 1
                self._found.tokens_cut += cut
                self._found.answerless += answerless
                shown = TruncatedRow(origin=row.origin, tokens=tokens, cut=cut, answerless=answerless)
                heapq.heappush(self._worst, (answerless, cut, row.id, shown))
                if len(self._worst) > EXAMPLES:
                    heapq.heappop(self._worst)
        self._waiting = []

    def report(self) -> Truncation:
        """What was found; call it after the lengths' report."""
        self._flush()
        worst = [shown for *_, shown in sorted(self._worst, key=lambda one: one[:3], reverse=True)]
        return self._found.model_copy(update={"examples": worst})
