"""Encode rows as tokens with a loss mask: the same functions for training, evaluation and serving.

A row is cut into segments, a prompt and an answer for each assistant turn, and each segment is tokenized separately.
The tokens before an answer are therefore the same in training and in serving, by construction: a tokenizer that would
merge the end of a prompt with the start of its answer never sees the two together.

An answer is what the rendered `messages[:i + 1]` has more than `messages[:i]` with its generation prompt. Where a
template rewrites earlier turns (some remove earlier reasoning), only the last answer of a row carries loss, after the
prompt that serving renders.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message
from loraline.data.chat_template import render_answer, render_prompt
from loraline.data.messages import message_text
from loraline.data.rows import Row
from loraline.errors import DatasetError, ModelLoadingError


@dataclass(frozen=True)
class EncodedRow:
    """A row's tokens, and for each whether it carries loss. Both lists have the same length."""

    token_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True)
class _Segment:
    """Text that is tokenized by itself, with special tokens around it that the text does not contain."""

    text: str
    loss: bool
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def encode_row(tokenizer: PreTrainedTokenizerBase, row: Row) -> EncodedRow:
    """Encode a row. Assistant turns carry loss, and all of a plain text does.

    Turns after the last assistant turn are left out: nothing in them is learned or conditioned on.

    Raises:
        DatasetError: the row has no assistant turn, or the chat template raises an error on it.
    """
    return encode_rows(tokenizer, [row])[0]


def encode_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[EncodedRow]:
    """Encode rows as `encode_row` does, much faster for many of them.

    Raises:
        DatasetError: a row has no assistant turn, or the chat template raises an error on it.
    """
    return _tokenize(tokenizer, [_row_segments(tokenizer, row) for row in rows])


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    """Encode a conversation up to its generation prompt: the same tokens that `encode_row` has before the answer.

    Raises:
        DatasetError: the chat template raises an error on the conversation.
    """
    return _tokenize(tokenizer, [_prompt_segments(tokenizer, messages)])[0].token_ids


def split_last_turn(row: Row) -> tuple[list[Message], str]:
    """Messages before a row's last assistant turn, and that turn's content; ([], "") for plain text.

    Raises:
        DatasetError: the row has no assistant turn.
    """
    if row.messages is None:
        return [], ""
    last = _last_answer(row)
    return row.messages[:last], message_text(row.messages[last])


def last_prompt(encoded: EncodedRow) -> list[int]:
    """The tokens of an encoded row before its last run of tokens with loss, which is its last answer."""
    end = len(encoded.loss_mask)
    while end and not encoded.loss_mask[end - 1]:
        end -= 1
    while end and encoded.loss_mask[end - 1]:
        end -= 1
    return encoded.token_ids[:end]


def prompt_digest(token_ids: Sequence[int]) -> str:
    """Digest of a prompt's tokens: 16 hexadecimal digits of SHA-256 over their ids."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode("ascii")).hexdigest()[:16]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> list[int]:
    """Tokens that end an answer: the EOS tokens of tokenizer and model, and the last token of an encoded answer.

    Raises:
        ModelLoadingError: there is no such token.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    stops = set(configured if isinstance(configured, list) else [configured])
    stops.add(tokenizer.eos_token_id)
    probe: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    stops.add(_tokenize(tokenizer, [_conversation_segments(tokenizer, probe)])[0].token_ids[-1])
    found = sorted(stop for stop in stops if stop is not None)
    return found or [_eos(tokenizer)]


def _row_segments(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[_Segment]:
    if row.messages is None:
        return [_Segment(row.text or "", True, _bos(tokenizer), (_eos(tokenizer),))]
    messages = row.messages[: _last_answer(row) + 1]
    try:
        return _conversation_segments(tokenizer, messages)
    except DatasetError as error:
        raise DatasetError(f"{row.origin}: {error}") from error


def _last_answer(row: Row) -> int:
    """Index of a row's last assistant turn."""
    turns = [i for i, message in enumerate(row.messages or []) if message["role"] == "assistant"]
    if not turns:
        raise DatasetError(f"{row.origin}: no message of role 'assistant', so there is nothing to learn from")
    return turns[-1]


def _conversation_segments(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[_Segment]:
    """Segments of a conversation that ends with an assistant turn."""
    answer = render_answer(tokenizer, messages)
    stripped = answer.rstrip()
    if _ends_with_special_token(tokenizer, stripped):
        last = _Segment(stripped, True)  # white space after the end of the turn is never generated
    else:
        last = _Segment(answer, True, after=(_eos(tokenizer),))
    return [*_prompt_segments(tokenizer, messages[:-1]), last]


def _prompt_segments(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[_Segment]:
    """Segments of a conversation up to its generation prompt."""
    prompt = render_prompt(tokenizer, messages)
    segments: list[_Segment] = []
    done = ""
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render_prompt(tokenizer, messages[:i])
        answer = render_answer(tokenizer, messages[: i + 1])
        stripped = answer.rstrip()
        answer = stripped if _ends_with_special_token(tokenizer, stripped) else answer
        if not (before.startswith(done) and prompt.startswith(before + answer)):
            return [_Segment(prompt, False)]  # the template rewrites earlier turns
        segments += [_Segment(before[len(done) :], False), _Segment(answer, True)]
        done = before + answer
    return [*segments, _Segment(prompt[len(done) :], False)]


def _ends_with_special_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    return any(text.endswith(token.content) for token in tokenizer.added_tokens_decoder.values())


def _bos(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return () if tokenizer.bos_token_id is None else (tokenizer.bos_token_id,)


def _eos(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.eos_token_id is None:
        raise ModelLoadingError(
            f"the tokenizer {tokenizer.name_or_path!r} has no EOS token, so the model could not learn where an "
            "answer ends; set eos_token in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def _tokenize(tokenizer: PreTrainedTokenizerBase, rows: list[list[_Segment]]) -> list[EncodedRow]:
    """Tokenize every segment of every row by itself, in one call, and join the rows again."""
    texts = [segment.text for segments in rows for segment in segments]
    tokens = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else [])
    encoded = []
    for segments in rows:
        token_ids: list[int] = []
        loss_mask: list[bool] = []
        for segment in segments:
            ids = [*segment.before, *next(tokens), *segment.after]
            token_ids += ids
            loss_mask += [segment.loss] * len(ids)
        encoded.append(EncodedRow(token_ids, loss_mask))
    return encoded
