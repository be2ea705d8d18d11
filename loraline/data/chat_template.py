"""Render conversations with a tokenizer's chat template, or with the Alpaca template where it has none.

The Alpaca template (https://github.com/tatsu-lab/stanford_alpaca) is written as a chat template. Templates are rendered
with their default arguments; one that writes today's date gets a fixed date, so that runs can be repeated.
`served_template` is the resulting template, which a merged model carries, so that a server renders what training
rendered.
"""

import json
import re
from datetime import datetime
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from loraline.artifacts.dataset_files import Message
from loraline.errors import DatasetError, ModelLoadingError

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


def served_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template that conversations are rendered with, to be stored with a model that is served.

    Raises:
        ModelLoadingError: the tokenizer has several templates, and none is the default.
    """
    if not tokenizer.chat_template:
        return _ALPACA
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelLoadingError(f"the tokenizer {tokenizer.name_or_path!r} has no default template: {error}") from error
    return _TODAY.sub(lambda call: json.dumps(_DATE.strftime(call["format"])), template)


def template_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that is used, in words."""
    return "the tokenizer's chat template" if tokenizer.chat_template else "the Alpaca template"


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """Render a conversation with the generation prompt after which the assistant answers.

    Raises:
        DatasetError: the template raises an error on the conversation.
    """
    return _render(tokenizer, messages, True)


def render_answer(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """Render the last message, an assistant turn: what it adds to the generation prompt before it.

    Raises:
        DatasetError: the template raises an error on the conversation, or writes an assistant turn that does not start
            with its generation prompt.
    """
    prompt = render_prompt(tokenizer, messages[:-1])
    whole = _render(tokenizer, messages, False)
    if not whole.startswith(prompt):
        raise DatasetError(
            "the tokenizer's chat template writes an assistant turn that does not start with its own generation "
            f"prompt ({whole[-120:]!r} against {prompt[-60:]!r}), so answers cannot be separated from prompts; "
            "use a template whose turns do, or a tokenizer without one (the Alpaca template is used then)"
        )
    return whole[len(prompt) :]


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], generation_prompt: bool) -> str:
    if not messages and tokenizer.chat_template:
        return ""  # few templates accept an empty conversation; Alpaca's does
    template = served_template(tokenizer)
    conversations: list[Any] = [messages]
    try:
        rendered: Any = tokenizer.apply_chat_template(
            conversations, chat_template=template, tokenize=False, add_generation_prompt=generation_prompt
        )
    except (jinja2.TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DatasetError(
            f"{template_name(tokenizer)} refuses a conversation of roles {roles}: {error}; "
            "change or drop such rows, or use a model whose template accepts them"
        ) from error
    return str(rendered[0])
