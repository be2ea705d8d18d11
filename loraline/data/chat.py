"""Encode rows as tokens with a loss mask: the same functions for training, evaluation and serving.

A row is rendered once (chat_turns) and tokenized in one piece (chat_tokens), so that the tokens before an answer are
those that a server makes of the same conversation, and the answer's are those that a model produces after them.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message, Tool
from loraline.data.chat_format import chat_format
from loraline.data.chat_template import adds_bos
from loraline.data.chat_tokens import EncodedRow, RowTokenizer, eos_token_id
from loraline.data.chat_turns import RenderedRow, render_prompt, render_row
from loraline.data.messages import last_answer
from loraline.data.rows import Row
from loraline.errors import DatasetError

_PROBE: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
_PROBE_TOOL: Tool = {
    "type": "function",
    "function": {"name": "c", "description": "d", "parameters": {"type": "object"}},
}
_PROBE_CALL: Message = {"role": "assistant", "content": None, "tool_calls": [{"name": "c", "arguments": {}}]}


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
    chats = [_render(tokenizer, row) for row in rows if row.messages is not None]
    encoded = iter(RowTokenizer(tokenizer).encode(chats))
    texts = [row.text or "" for row in rows if row.messages is None]
    plain = map(EncodedRow.of_text, _tokenize_texts(tokenizer, texts) if texts else [])
    return [next(plain if row.messages is None else encoded) for row in rows]


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: list[Tool] | None = None
) -> list[int]:
    """Encode a conversation up to its generation prompt: the same tokens that `encode_row` has before the answer.

    Raises:
        DatasetError: the chat template raises an error on the conversation.
    """
    return RowTokenizer(tokenizer).ids(render_prompt(chat_format(tokenizer, tools), messages, tools))


def prompt_messages(row: Row) -> list[Message]:
    """The messages before a row's last answer; none of a plain text.

    Raises:
        DatasetError: the row has no assistant turn.
    """
    return [] if row.messages is None else row.messages[: _last_answer(row)]


def last_prompt(encoded: EncodedRow) -> list[int]:
    """The tokens of an encoded row before its last answer."""
    return encoded.token_ids[: encoded.prompt_length]


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
    probes = [Row.of(_PROBE)]
    if tokenizer.chat_template:
        probes.append(Row.of([_PROBE[0], _PROBE_CALL], tools=[_PROBE_TOOL]))
    for probe in probes:
        try:
            rendered = _render(tokenizer, probe)
        except DatasetError:  # the template has no tools, or wants a conversation of its own kind
            continue
        if rendered.is_ended:
            stops.add(RowTokenizer(tokenizer).ids(rendered.text)[-1])
    found = sorted(stop for stop in stops if stop is not None)
    return found or [eos_token_id(tokenizer)]


def _render(tokenizer: PreTrainedTokenizerBase, row: Row) -> RenderedRow:
    messages = (row.messages or [])[: _last_answer(row) + 1]
    try:
        return render_row(chat_format(tokenizer, row.tools), messages, row.tools)
    except DatasetError as error:
        raise DatasetError(f"{row.origin}: {error}") from error


def _last_answer(row: Row) -> int:
    """Index of a row's last assistant turn that carries loss."""
    last = last_answer(row.messages or [])
    if last is None:
        raise DatasetError(f"{row.origin}: no message of role 'assistant' carries loss, so there is nothing to learn")
    return last


def _tokenize_texts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Tokenize plain texts, each with the BOS token where the tokenizer itself sets one, and the EOS token."""
    bos, eos = [tokenizer.bos_token_id] if adds_bos(tokenizer) else [], eos_token_id(tokenizer)
    tokenized = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [[*bos, *token_ids, eos] for token_ids in tokenized]
