"""Tokenize rendered rows, each in one piece, and find the tokens of its answers by their character offsets.

A tokenizer may merge the end of a prompt with the beginning of its answer into one token, which a server never sees: it
tokenizes the prompt alone. Prompts are therefore compared with what the tokenizer makes of them alone: from their last
added token on, because a tokenizer cuts a text there first. Where it merges across, the prompt is tokenized by itself,
and the answer as it is tokenized after other text.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from loraline.data.chat_turns import RenderedRow, Span
from loraline.errors import ModelLoadingError


@dataclass(frozen=True)
class EncodedRow:
    """A row's tokens, and for each whether it carries loss. Both lists have the same length."""

    token_ids: list[int]
    loss_mask: list[bool]
    prompt_length: int = 0
    """Tokens before the last answer; 0 for plain text."""
    silent_turns: int = 0
    """Answers that carry no loss, though the row asks for it."""
    is_joined: bool = False
    """Whether prompt and last answer were tokenized apart, because the tokenizer would merge across."""

    @classmethod
    def of_text(cls, token_ids: list[int]) -> "EncodedRow":
        """A plain text, all of which carries loss."""
        return cls(token_ids, [True] * len(token_ids))


def eos_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokenizer's EOS token.

    Raises:
        ModelLoadingError: it has none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelLoadingError(
            f"the tokenizer {tokenizer.name_or_path!r} has no EOS token, so the model could not learn where an "
            "answer ends; set eos_token in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


class RowTokenizer:
    """A tokenizer for rendered rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer."""
        self._tokenizer = tokenizer
        self.has_offsets = tokenizer.is_fast
        self._added = frozenset(tokenizer.added_tokens_decoder)
        if self.has_offsets:
            self._backend: Any = tokenizer.backend_tokenizer
        self._tail = lru_cache(maxsize=1024)(self.ids)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens that the text does not contain."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode(self, rows: list[RenderedRow]) -> list[EncodedRow]:
        """Encode rows; those that do not end with a token that ends a turn are ended with the EOS token."""
        if not self.has_offsets:
            return [self._encode_apart(row) for row in rows]
        self._backend.no_truncation()
        self._backend.no_padding()
        encodings = self._backend.encode_batch([row.text for row in rows], add_special_tokens=False)
        return [self._encode(row, encoding) for row, encoding in zip(rows, encodings, strict=True)]

    def _encode(self, row: RenderedRow, encoding: Any) -> EncodedRow:
        ids: list[int] = encoding.ids
        first = self._first_token(encoding, row.prompt_end, row.text)
        if first is None or not self._is_prompt(encoding, ids, first, row.text[: row.prompt_end]):
            return self._encode_apart(row)
        mask = [False] * first + [True] * (len(ids) - first)
        silent = row.silent
        for span in row.spans[:-1]:
            silent += not self._mark(encoding, ids, row.text, span, mask)
        if not row.is_ended:
            ids, mask = [*ids, eos_token_id(self._tokenizer)], [*mask, True]
        return EncodedRow(ids, mask, first, silent)

    def _mark(self, encoding: Any, ids: list[int], text: str, span: Span, mask: list[bool]) -> bool:
        """Mark the tokens of an earlier answer; False where its prompt is tokenized otherwise by itself."""
        start, end = span
        first = self._first_token(encoding, start, text)
        if first is None or not self._is_prompt(encoding, ids, first, text[:start]):
            return False
        after = self._first_token(encoding, end, text, or_within=True)
        after = len(ids) if after is None else after
        while after > first and encoding.token_to_chars(after - 1)[1] > end:
            after -= 1
        mask[first:after] = [True] * (after - first)
        return after > first

    def _first_token(self, encoding: Any, position: int, text: str, or_within: bool = False) -> int | None:
        """Index of the first token at or after a character; None where one begins before it and ends after it."""
        for at in range(position, len(text)):
            token: int | None = encoding.char_to_token(at)
            if token is not None:
                return token if or_within or encoding.token_to_chars(token)[0] >= position else None
        return len(encoding.ids)

    def _is_prompt(self, encoding: Any, ids: list[int], first: int, prompt: str) -> bool:
        """Whether the tokens before `first` are what the tokenizer makes of the prompt alone."""
        begin = first - 1
        while begin > 0 and ids[begin] not in self._added:
            begin -= 1
        if begin > 0 and ids[begin:first] == self._tail(prompt[encoding.token_to_chars(begin)[0] :]):
            return True
        return ids[:first] == self.ids(prompt)

    def _encode_apart(self, row: RenderedRow) -> EncodedRow:
        """Tokenize prompt and last answer apart; earlier answers carry no loss."""
        prompt = self.ids(row.text[: row.prompt_end])
        answer = self._answer_ids(row.text[row.prompt_end :])
        if not row.is_ended:
            answer = [*answer, eos_token_id(self._tokenizer)]
        mask = [False] * len(prompt) + [True] * len(answer)
        return EncodedRow([*prompt, *answer], mask, len(prompt), row.silent + len(row.spans) - 1, is_joined=True)

    def _answer_ids(self, answer: str) -> list[int]:
        """The tokens of a text that stands after another text, without a sign for the beginning of a text."""
        if self.has_offsets:
            for anchor in _ANCHORS:
                encoding = self._backend.encode(anchor + answer, add_special_tokens=False)
                first = self._first_token(encoding, len(anchor), anchor + answer)
                if first is not None and encoding.ids[:first] == self._tail(anchor):
                    return list(encoding.ids[first:])
        return self.ids(answer)


_ANCHORS = ("\n", ".", "a")
