"""How a row becomes tokens: the one function for training, evaluation and serving.

A row is cut into pieces, a prompt piece and an answer piece for each assistant turn, and every piece is
tokenized apart. So the tokens before an answer are the same wherever they are made, by construction:
a tokenizer that would merge the end of a prompt with the start of its answer never sees the two together.

The tokenizer's chat template is used where it has one, with its default arguments, else the Alpaca template
(https://github.com/tatsu-lab/stanford_alpaca), written as a chat template. A template that writes today's date gets
a date that stays, or no run could be repeated. `served_template` is the text that comes of it, and a merged
model carries it, so that a server renders what training rendered.

Pieces of a chat template are found by rendering: an answer is what `messages[:i + 1]` has more than `messages[:i]`
with its generation prompt. Where a template rewrites earlier turns (some drop old reasoning), only the last
answer of a row carries loss, after the prompt that serving would show.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message
from loraline.data.rows import Row
from loraline.errors import DatasetError, ModelLoadingError

# A system message takes the preamble's place, and further turns follow with their headings.
_ALPACA = """\
{%- set system = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\\n\\n') -%}
{{- bos_token }}
{{- system or 'Below is an instruction that describes a task. \
Write a response that appropriately completes the request.' }}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '\\n\\n### Instruction:\\n' + message['content'] }}
{%- elif message['role'] == 'assistant' -%}
{{- '\\n\\n### Response:\\n' + message['content'] }}{{ eos_token }}
{%- elif message['role'] != 'system' -%}
{{- raise_exception("the Alpaca template has no role '" + message['role'] + "'; it knows system, user and assistant") }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '\\n\\n### Response:\\n' }}
{%- endif -%}
"""
_DATE = datetime(2024, 7, 26)  # the one that Llama 3's template falls back to
_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")


@dataclass(frozen=True)
class Encoded:
    """A row's tokens, and for each of them whether it carries loss. Both lists have the same length."""

    token_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True)
class _Piece:
    """Text that is tokenized by itself, with special tokens around it that have no text of their own."""

    text: str
    loss: bool
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def encode_row(tokenizer: PreTrainedTokenizerBase, row: Row) -> Encoded:
    """Turn a row into tokens; assistant turns carry loss, and all of a plain text does.

    What comes after the last assistant turn is left out: nothing in it is learned or conditioned on.

    Raises:
        DatasetError: the row has no assistant turn, or the chat template does not take it.
    """
    return encode_rows(tokenizer, [row])[0]


def encode_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[Encoded]:
    """Turn rows into tokens as `encode_row` does, much faster for many of them.

    Raises:
        DatasetError: a row has no assistant turn, or the chat template does not take it.
    """
    return _tokenize(tokenizer, [_row_pieces(tokenizer, row) for row in rows])


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    """Turn a conversation into the tokens after which the assistant speaks.

    They are those that `encode_row` puts before that turn.

    Raises:
        DatasetError: the chat template does not take the conversation.
    """
    return _tokenize(tokenizer, [_prompt_pieces(tokenizer, messages)])[0].token_ids


def split_last_turn(row: Row) -> tuple[list[Message], str]:
    """Messages before a row's last assistant turn, and that turn's content; ([], "") for plain text.

    Raises:
        DatasetError: the row has no assistant turn.
    """
    if row.messages is None:
        return [], ""
    last = _last_turn(row)
    return row.messages[:last], row.messages[last]["content"]


def served_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that `encode_row` renders with, to be put beside a model that is served.

    Raises:
        ModelLoadingError: the tokenizer has several templates, and none is the default.
    """
    if not tokenizer.chat_template:
        return _ALPACA
    try:
        own = tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelLoadingError(f"the tokenizer {tokenizer.name_or_path!r} has no default template: {error}") from error
    return _TODAY.sub(lambda call: json.dumps(_DATE.strftime(call["format"])), own)


def last_prompt(encoded: Encoded) -> list[int]:
    """The tokens of an encoded row before its last stretch with loss: what its last answer is conditioned on."""
    end = len(encoded.loss_mask)
    while end and not encoded.loss_mask[end - 1]:
        end -= 1
    while end and encoded.loss_mask[end - 1]:
        end -= 1
    return encoded.token_ids[:end]


def prompt_digest(token_ids: Sequence[int]) -> str:
    """What tells whether two prompts are the same tokens: 16 hexadecimal digits of SHA-256 over their ids."""
    return hashlib.sha256(",".join(map(str, token_ids)).encode("ascii")).hexdigest()[:16]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> list[int]:
    """Tokens that end an answer: the EOS tokens of tokenizer and model, and the one that the template puts there.

    Raises:
        ModelLoadingError: there is no such token.
    """
    configured = getattr(generation_config, "eos_token_id", None)
    stops = set(configured if isinstance(configured, list) else [configured])
    stops.add(tokenizer.eos_token_id)
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    stops.add(_tokenize(tokenizer, [_answered_pieces(tokenizer, probe)])[0].token_ids[-1])
    found = sorted(stop for stop in stops if stop is not None)
    return found or [_eos(tokenizer)]


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """What `encode_row` uses, for reports and messages."""
    return "the tokenizer's chat template" if tokenizer.chat_template else "the Alpaca template"


def _row_pieces(tokenizer: PreTrainedTokenizerBase, row: Row) -> list[_Piece]:
    if row.messages is None:
        return [_Piece(row.text or "", True, _bos(tokenizer), (_eos(tokenizer),))]
    messages = row.messages[: _last_turn(row) + 1]
    try:
        return _answered_pieces(tokenizer, messages)
    except DatasetError as error:
        raise DatasetError(f"{row.origin}: {error}") from error


def _last_turn(row: Row) -> int:
    turns = [i for i, message in enumerate(row.messages or []) if message["role"] == "assistant"]
    if not turns:
        raise DatasetError(f"{row.origin}: no message of role 'assistant', so there is nothing to learn from")
    return turns[-1]


def _answered_pieces(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[_Piece]:
    """Pieces of a conversation that ends with an assistant turn."""
    answer = _answer(tokenizer, messages)
    stripped = answer.rstrip()
    if _ends_special(tokenizer, stripped):
        last = _Piece(stripped, True)  # what follows the end of the turn is never generated
    else:
        last = _Piece(answer, True, after=(_eos(tokenizer),))
    return [*_prompt_pieces(tokenizer, messages[:-1]), last]


def _prompt_pieces(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[_Piece]:
    """Pieces of the turns that are there, ending with the generation prompt."""
    prompt = _render(tokenizer, messages, True)
    pieces: list[_Piece] = []
    done = ""
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, messages[:i], True)
        answer = _answer(tokenizer, messages[: i + 1])
        stripped = answer.rstrip()
        answer = stripped if _ends_special(tokenizer, stripped) else answer
        if not (before.startswith(done) and prompt.startswith(before + answer)):
            return [_Piece(prompt, False)]  # the template rewrites history: see the head of this file
        pieces += [_Piece(before[len(done) :], False), _Piece(answer, True)]
        done = before + answer
    return [*pieces, _Piece(prompt[len(done) :], False)]


def _answer(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """What the last message, an assistant turn, adds to the generation prompt before it."""
    prompt = _render(tokenizer, messages[:-1], True)
    whole = _render(tokenizer, messages, False)
    if not whole.startswith(prompt):
        raise DatasetError(
            "the tokenizer's chat template writes an assistant turn that does not start with its own generation "
            f"prompt ({whole[-120:]!r} against {prompt[-60:]!r}), so answers cannot be told from prompts; "
            "use a template whose turns do, or a tokenizer without one (the Alpaca template is used then)"
        )
    return whole[len(prompt) :]


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], generation_prompt: bool) -> str:
    if not messages and tokenizer.chat_template:
        return ""  # few templates take a conversation without a turn; Alpaca's does
    template = served_template(tokenizer)
    try:
        rendered: Any = tokenizer.apply_chat_template(
            [messages], chat_template=template, tokenize=False, add_generation_prompt=generation_prompt
        )
    except (jinja2.TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DatasetError(
            f"{template_name(tokenizer)} refuses a conversation of roles {roles}: {error}; "
            "change or drop such rows, or use a model whose template takes them"
        ) from error
    return str(rendered[0])


def _ends_special(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
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


def _tokenize(tokenizer: PreTrainedTokenizerBase, rows: list[list[_Piece]]) -> list[Encoded]:
    """Tokenize every piece of every row by itself, in one call, and put the rows together again."""
    texts = [piece.text for pieces in rows for piece in pieces]
    found = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else [])
    encoded = []
    for pieces in rows:
        token_ids: list[int] = []
        loss_mask: list[bool] = []
        for piece in pieces:
            ids = [*piece.before, *next(found), *piece.after]
            token_ids += ids
            loss_mask += [piece.loss] * len(ids)
        encoded.append(Encoded(token_ids, loss_mask))
    return encoded
