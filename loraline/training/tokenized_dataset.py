"""The training set as token ids and loss mask, in flat arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from loraline.data.chat import encode_rows
from loraline.data.chat_tokens import EncodedRow
from loraline.data.rows import Row

_ROWS_PER_CALL = 1000  # tokenized in one call, which bounds the number of Python lists of tokens


@dataclass(frozen=True)
class TokenizedDataset:
    """Tokenized rows (sequences), concatenated. Rows without a token that carries loss are left out."""

    ids: list[str]
    origins: list[str]
    token_ids: np.ndarray
    """int32, shape (total tokens,)."""
    loss_mask: np.ndarray
    """Whether a token is a label, bool, shape (total tokens,). Never true for the first token of a sequence."""
    lengths: np.ndarray
    """Number of tokens of each sequence, int64, shape (sequences,)."""
    truncated: int
    """Number of rows that were truncated to the maximum length."""
    dropped: int
    """Number of rows that were left out because none of their tokens carries loss."""
    silent: int
    """Number of rows with an answer that carries no loss, though the row asks for it."""
    joined: int
    """Number of rows whose last answer was tokenized apart from its prompt."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Index of the first token of each sequence, shape (sequences,)."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def num_labels(self) -> np.ndarray:
        """Number of tokens with loss in each sequence, shape (sequences,)."""
        return np.add.reduceat(self.loss_mask, self.offsets, dtype=np.int64) if len(self) else np.zeros(0, np.int64)

    @property
    def masked_fraction(self) -> float:
        """Fraction of the tokens that carry no loss."""
        return 1 - float(self.loss_mask.mean())


def tokenize(tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int) -> TokenizedDataset:
    """Tokenize rows, truncate those that are too long, and drop those without a token that carries loss."""
    ids, origins, token_ids, loss_masks = [], [], [], []
    truncated = silent = joined = 0
    for row, encoded in _encoded(tokenizer, rows):
        truncated += len(encoded.token_ids) > max_length
        silent += encoded.silent_turns > 0
        joined += encoded.is_joined
        loss_mask = np.array(encoded.loss_mask[:max_length], dtype=bool)
        loss_mask[:1] = False  # the first token has no preceding token that could predict it
        if not loss_mask.any():
            continue
        ids.append(row.id)
        origins.append(row.origin)
        token_ids.append(np.array(encoded.token_ids[:max_length], dtype=np.int32))
        loss_masks.append(loss_mask)
    return TokenizedDataset(
        ids,
        origins,
        np.concatenate(token_ids) if token_ids else np.zeros(0, np.int32),
        np.concatenate(loss_masks) if loss_masks else np.zeros(0, bool),
        np.array([len(one) for one in loss_masks], dtype=np.int64),
        truncated,
        len(rows) - len(ids),
        silent,
        joined,
    )


def _encoded(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> Iterator[tuple[Row, EncodedRow]]:
    for start in range(0, len(rows), _ROWS_PER_CALL):
        part = rows[start : start + _ROWS_PER_CALL]
        yield from zip(part, encode_rows(tokenizer, part), strict=True)
