"""Put a recipe's chat template, and the values of its variables, into a model folder.

Every step reads the tokenizer of such a folder, and the merged model gets its files: what training renders is what
evaluation and a server render, which know nothing of the settings.
"""

from pathlib import Path
from typing import Any

import jinja2

from loraline.data.chat_template import set_variables, template_variables
from loraline.errors import ConfigurationError
from loraline.models.folder import load_tokenizer

_DEFAULT, _OTHERS = "chat_template.jinja", "additional_chat_templates"


def write_chat_settings(folder: Path, template: str, variables: dict[str, Any]) -> None:
    """Write the chat template into a model folder; nothing where both settings are empty.

    Args:
        folder: the model folder, with its tokenizer.
        template: `model.chat_template`; empty: the tokenizer's own.
        variables: `model.chat_template_kwargs`. A server may still set other values.

    Raises:
        ConfigurationError: the template is no template, or does not read one of the variables.
        ModelLoadingError: the tokenizer cannot be read.
    """
    if not template and not variables:
        return
    own = {"default": template} if template else _own_templates(folder)
    for name, text in own.items():
        _check(text, variables)
        file = folder / _DEFAULT if name == "default" else folder / _OTHERS / f"{name}.jinja"
        file.parent.mkdir(exist_ok=True)
        file.write_text(set_variables(text, variables), encoding="utf-8")


def _own_templates(folder: Path) -> dict[str, str]:
    templates: Any = load_tokenizer(folder).chat_template
    if not templates:
        raise ConfigurationError(
            f"model.chat_template_kwargs is set, and the tokenizer in {folder} has no chat template; "
            "remove it, or give a template with model.chat_template"
        )
    return dict(templates) if isinstance(templates, dict) else {"default": templates}


def _check(template: str, variables: dict[str, Any]) -> None:
    try:
        known = template_variables(template)
    except jinja2.TemplateError as error:
        raise ConfigurationError(f"model.chat_template is not a template that can be read: {error}") from error
    unknown = [name for name in variables if name not in known]
    if unknown:
        raise ConfigurationError(
            f"model.chat_template_kwargs sets {', '.join(map(repr, unknown))}, which the chat template does not read; "
            f"it reads {', '.join(known)}"
        )
