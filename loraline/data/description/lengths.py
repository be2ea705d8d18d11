"""How long rows are, in tokens: counted exactly, in memory that does not grow with the rows."""

import math
from collections import Counter
from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset import LengthReport, Lengths, Part
from loraline.artifacts.dataset_files import Split
from loraline.data.rows import Row

_ROWS_AT_ONCE = 512
_CHARACTERS_AT_ONCE = 1 << 20
_BINS = 16


def token_counter(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], list[int]]:
    """Give a function that counts the tokens of several texts at once, without special tokens."""
    if not tokenizer.is_fast:
        return lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    # The same tokens as tokenizer(texts) gives, in half the time, because nothing but their number is made.
    return lambda texts: [len(tokens) for tokens in backend.encode_batch_fast(texts, add_special_tokens=False)]


class LengthMeter:
    """Counts the tokens of rows, batch by batch."""

    def __init__(self, count: Callable[[list[str]], list[int]], hear: Callable[[Row, int], None] | None = None) -> None:
        """`hear` is told the tokens of each row to train on, prompt and completion together."""
        self._count = count
        self._hear = hear
        self._waiting: list[tuple[Split, Row, str, str]] = []
        self._waiting_characters = 0
        self._counts: dict[tuple[Split, Part], Counter[int]] = {
            (side, part): Counter() for side in ("train", "eval") for part in ("prompt", "completion")
        }

    def add(self, side: Split, row: Row) -> None:
        """Take in a row. Completion is what the assistant says, or a plain text; prompt is the rest."""
        turns = row.messages or []
        said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        asked = [turn["content"] for turn in turns if turn["role"] != "assistant"]
        completion = "\n".join(said) if row.text is None else row.text
        prompt = "\n".join(asked)
        self._waiting.append((side, row, prompt, completion))
        self._waiting_characters += len(prompt) + len(completion)
        if len(self._waiting) >= _ROWS_AT_ONCE or self._waiting_characters >= _CHARACTERS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        texts = [text for _, _, prompt, completion in self._waiting for text in (prompt, completion)]
        counts = iter(self._count(texts) if texts else [])
        for side, row, _, _ in self._waiting:
            prompt, completion = next(counts), next(counts)
            self._counts[side, "prompt"][prompt] += 1
            self._counts[side, "completion"][completion] += 1
            if self._hear and side == "train":
                self._hear(row, prompt + completion)
        self._waiting, self._waiting_characters = [], 0

    def report(self) -> LengthReport:
        """The lengths of all rows so far. Both sides must have rows."""
        self._flush()
        edges: dict[Part, list[int]] = {
            part: _edges(self._counts["train", part] + self._counts["eval", part]) for part in ("prompt", "completion")
        }
        sides = {
            side: {part: _lengths(self._counts[side, part], edges[part]) for part in edges}
            for side in ("train", "eval")
        }
        return LengthReport(edges=edges, **sides)


def _edges(counts: Counter[int]) -> list[int]:
    """Bins of one round width (1, 2 or 5 times a power of ten) up to the 99th percentile; the last takes the rest."""
    longest = max(1, _at_rank(counts, math.ceil(0.99 * counts.total())))
    width = next(
        digit * 10**power for power in range(12) for digit in (1, 2, 5) if longest <= digit * 10**power * _BINS
    )
    return list(range(0, longest + 1, width))


def _lengths(counts: Counter[int], edges: list[int]) -> Lengths:
    rows = counts.total()
    total = sum(length * number for length, number in counts.items())
    width = edges[1] - edges[0] if len(edges) > 1 else 1
    histogram = [0] * len(edges)
    for length, number in counts.items():
        histogram[min(length // width, len(edges) - 1)] += number
    return Lengths(
        rows=rows,
        total=total,
        min=min(counts),
        median=(_at_rank(counts, (rows + 1) // 2) + _at_rank(counts, rows // 2 + 1)) / 2,
        mean=round(total / rows, 2),
        p95=_at_rank(counts, math.ceil(0.95 * rows)),
        max=max(counts),
        histogram=histogram,
    )


def _at_rank(counts: Counter[int], rank: int) -> int:
    """The length of the row of that rank (from 1) among the rows sorted by length."""
    below = 0
    for length in sorted(counts):
        below += counts[length]
        if below >= rank:
            return length
    raise AssertionError(f"rank {rank} of {below} rows")
