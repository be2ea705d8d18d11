"""A chat template of one's own, and the values of its variables, are part of the base and reach a server."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from loraline.data.chat import encode_row, last_prompt
from loraline.data.chat_template import set_variables
from loraline.data.rows import Row
from loraline.errors import ConfigurationError
from loraline.models.chat_settings import write_chat_settings
from loraline.models.config import ModelConfig
from tests.loraline.data.templates import CHATML, THINKS, byte_tokenizer

__all__ = ["byte_tokenizer"]

ROW = Row.of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}])


@pytest.fixture
def folder(byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    byte_tokenizer.chat_template = THINKS
    byte_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_variables_reach_training_and_a_server_that_knows_nothing_of_them(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = tokenizer.decode(last_prompt(encode_row(tokenizer, ROW)))
    write_chat_settings(folder, "", {"enable_thinking": False})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = last_prompt(encode_row(tokenizer, ROW))
    assert tokenizer.decode(prompt) == before + "<think>\n\n</think>\n\n"
    served = tokenizer.apply_chat_template(ROW.messages[:1], add_generation_prompt=True, return_dict=False)
    assert served == prompt
    again = tokenizer.apply_chat_template(
        ROW.messages[:1], add_generation_prompt=True, tokenize=False, enable_thinking=True
    )
    assert again == before  # a server may still ask for it


def test_a_template_of_ones_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(CHATML)
    settings = ModelConfig(source="x", chat_template=str(tmp_path / "own.jinja"))
    assert settings.chat_template == CHATML  # its text, so that another text is another base
    write_chat_settings(folder, settings.chat_template, {})
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHATML


def test_settings_without_effect_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'missing\.jinja' is neither a file nor a template"):
        ModelConfig(source="x", chat_template="missing.jinja")
    with pytest.raises(ConfigurationError, match=r"sets 'thinking', which .* it reads enable_thinking"):
        write_chat_settings(folder, "", {"thinking": True})
    with pytest.raises(ConfigurationError, match="is not a template that can be read"):
        write_chat_settings(folder, "{% for %}", {})


def test_any_json_value_can_be_set(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    byte_tokenizer.chat_template = set_variables(
        "{{ a.b[1] }} {{ c is none }} {{ d }} {{ e + 1 }}", {"a": {"b": [1, 'x\n"']}, "c": None, "d": True, "e": 1.5}
    )
    text = byte_tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
    assert text == 'x\n" True True 2.5'
