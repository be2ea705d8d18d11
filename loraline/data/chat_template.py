"""Render conversations with a tokenizer's chat template, or with the Alpaca template where it has none.

The Alpaca template (https://github.com/tatsu-lab/stanford_alpaca) is written as a chat template. A template that writes
today's date gets a fixed date, so that runs can be repeated. `served_template` is the resulting template, which a
merged model carries, so that a server renders what training rendered.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from loraline.artifacts.dataset_files import Tool
from loraline.errors import DatasetError, ModelLoadingError

TemplateMessage = dict[str, Any]
"""A message as chat templates read it: of OpenAI's API, with reasoning_content."""

# A system message replaces the preamble, and further turns follow with their headings.
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
_DATE = datetime(2024, 7, 26)  # the fallback date of Llama 3's template
_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")


_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def served_template(tokenizer: PreTrainedTokenizerBase, tools: bool = False) -> str:
    """The chat template that conversations are rendered with, to be stored with a model that is served.

    Args:
        tokenizer: the model's.
        tools: of a conversation with tools, for which some tokenizers have a template of its own.

    Raises:
        ModelLoadingError: the tokenizer has several templates, and none is the default.
    """
    if not tokenizer.chat_template:
        return _ALPACA if adds_bos(tokenizer) else _ALPACA.replace("{{- bos_token }}\n", "")
    try:
        template = tokenizer.get_chat_template(tools=[{}] if tools else None)
    except ValueError as error:
        raise ModelLoadingError(f"the tokenizer {tokenizer.name_or_path!r} has no default template: {error}") from error
    return _with_fixed_date(template)


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer by itself begins a text with its BOS token."""
    if tokenizer.bos_token_id is None:
        return False
    token_ids: Any = tokenizer("a", add_special_tokens=True)["input_ids"]
    return bool(token_ids) and token_ids[0] == tokenizer.bos_token_id


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that is used, in words."""
    return "the tokenizer's chat template" if tokenizer.chat_template else "the Alpaca template"


class ChatTemplate:
    """A chat template with the special tokens of a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tools: Sequence[Tool] | None) -> None:
        """Take the template of conversations with or without tools; of `tools` only whether there are any counts."""
        self.text = served_template(tokenizer, bool(tools))
        self.name = template_name(tokenizer)
        self.marks_answers = bool(_GENERATION.search(self.text))
        """Whether it says itself which text is the assistant's: `{% generation %}`."""
        self._special_tokens: dict[str, Any] = tokenizer.special_tokens_map

    def render(self, messages: list[TemplateMessage], tools: list[Tool] | None, generation_prompt: bool) -> str:
        """Render a conversation, with the prompt after which the assistant answers or without.

        Raises:
            DatasetError: the template raises an error on the conversation.
        """
        texts, _ = self._render(messages, tools, add_generation_prompt=generation_prompt)
        return str(texts[0])

    def render_marked(
        self, messages: list[TemplateMessage], tools: list[Tool] | None
    ) -> tuple[str, list[tuple[int, int]]]:
        """Render a conversation, and tell the character spans that the template marks as the assistant's.

        Raises:
            DatasetError: the template raises an error on the conversation.
        """
        texts, spans = self._render(messages, tools, return_assistant_tokens_mask=True)
        return str(texts[0]), [(int(start), int(end)) for start, end in spans[0]]

    def _render(self, messages: list[TemplateMessage], tools: Any, **settings: bool) -> Any:
        try:
            # As `apply_chat_template` does, which leaves keys without a value out.
            given = [{key: value for key, value in message.items() if value is not None} for message in messages]
            return render_jinja_template(
                [given], tools=tools or None, chat_template=self.text, **{**self._special_tokens, **settings}
            )
        except (jinja2.TemplateError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise DatasetError(
                f"{self.name} refuses a conversation of roles {roles}: {error}; "
                "change or drop such rows, or use a model whose template accepts them"
            ) from error


@lru_cache(maxsize=64)
def _with_fixed_date(template: str) -> str:
    return _TODAY.sub(lambda call: json.dumps(_DATE.strftime(call["format"])), template)


def set_variables(template: str, variables: dict[str, Any]) -> str:
    """A template whose variables have these values where whoever renders it gives none."""
    lines = [f"{{%- if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif -%}}\n"
             for name, value in sorted(variables.items())]  # fmt: skip
    return "".join(lines) + template


def _literal(value: Any) -> str:
    """A JSON value as Jinja writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return "none" if value is None else json.dumps(value)


@lru_cache(maxsize=64)
def template_variables(template: str) -> list[str]:
    """The names that a template reads and that whoever renders it may set, sorted.

    Raises:
        jinja2.TemplateError: it is not a template.
    """
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
    # The tag is transformers' own, and holds ordinary statements.
    text = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", template)
    names: set[str] = jinja2.meta.find_undeclared_variables(environment.parse(text))
    # A variable with a default is declared by the template itself.
    names |= set(re.findall(r"(\w+) is (?:not )?defined", text)) - {"defined"}
    return sorted(names - _GIVEN)


_GIVEN = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token", "unk_token",
     "raise_exception", "strftime_now", "namespace", "dict", "range", "loop"}
)  # fmt: skip
