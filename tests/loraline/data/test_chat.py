"""Rows become the same tokens in training, evaluation and serving, and loss falls on answers alone."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from loraline.data.chat import (
    encode_prompt,
    encode_row,
    encode_rows,
    last_prompt,
    prompt_digest,
    prompt_messages,
    stop_token_ids,
)
from loraline.data.chat_template import served_template
from loraline.data.rows import Row
from loraline.errors import DatasetError, ModelLoadingError

CHATML = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
# As reasoning models do: what the last answer has, earlier ones lose.
REWRITES = CHATML.replace(
    "{{ m.content }}", "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}"
)
UNMARKED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
TODAY = "{%- if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}" + CHATML  # as Llama 3.2's does
BROKEN = CHATML.replace("<|turn|>assistant\n{%", "<|turn|>model\n{%")

TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "sum of 2 and 3?"},
    {"role": "assistant", "content": " 5"},
]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|turn|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = ["\n 5 \nhello: the sum of", "Response:\nhello"] * 9
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def learned(tokenizer: PreTrainedTokenizerFast, row: Row) -> str:
    encoded = encode_row(tokenizer, row)
    return tokenizer.decode([t for t, loss in zip(encoded.token_ids, encoded.loss_mask, strict=True) if loss])


@pytest.mark.parametrize(
    ("template", "answers"),
    [
        (None, "hello</s> 5</s>"),
        (CHATML, "hello<|end|> 5<|end|>"),
        (REWRITES, "<think></think> 5<|end|>"),
        (UNMARKED, "hello\n 5\n</s>"),
    ],
)
def test_loss_falls_on_answers(tokenizer: PreTrainedTokenizerFast, template: str | None, answers: str) -> None:
    tokenizer.chat_template = template
    assert learned(tokenizer, Row.of(messages=TURNS)) == answers


@pytest.mark.parametrize("template", [None, CHATML, REWRITES, UNMARKED])
def test_the_encoded_prompt_is_a_prefix_of_the_encoded_row(
    tokenizer: PreTrainedTokenizerFast, template: str | None
) -> None:
    tokenizer.chat_template = template
    row = Row.of(messages=TURNS)
    history = prompt_messages(row)
    assert history == TURNS[:-1]
    prompt, encoded = encode_prompt(tokenizer, history), encode_row(tokenizer, row)
    assert encoded.token_ids[: len(prompt)] == prompt
    assert all(encoded.loss_mask[len(prompt) :])
    assert not encoded.loss_mask[len(prompt) - 1]


def test_the_alpaca_template(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "hi"}])
    assert tokenizer.decode(prompt) == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nhi\n\n### Response:\n"
    )
    with_system = encode_prompt(tokenizer, TURNS[:2])
    assert tokenizer.decode(with_system) == "<s>be kind\n\n### Instruction:\nhi\n\n### Response:\n"


@pytest.mark.parametrize("template", [None, CHATML, REWRITES, UNMARKED, TODAY])
def test_the_served_template_gives_the_prompt_of_training(
    tokenizer: PreTrainedTokenizerFast, template: str | None
) -> None:
    tokenizer.chat_template = template
    trained = last_prompt(encode_row(tokenizer, Row.of(messages=TURNS)))
    assert trained == encode_prompt(tokenizer, TURNS[:-1])
    tokenizer.chat_template = served_template(tokenizer)
    served = tokenizer.apply_chat_template(TURNS[:-1], add_generation_prompt=True, return_dict=False)
    assert prompt_digest(served) == prompt_digest(trained)


def test_todays_date_is_replaced_by_a_fixed_date(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = TODAY
    prompt = tokenizer.decode(encode_prompt(tokenizer, TURNS[:2]))
    assert prompt.startswith("26 Jul 2024<|turn|>system")
    assert "strftime_now(" not in served_template(tokenizer)


def test_a_conversation_of_one_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert learned(tokenizer, Row.of(messages=[TURNS[2]])) == "hello</s>"


def test_the_digest_of_a_prompt() -> None:
    digests = {prompt_digest(ids) for ids in ([], [1], [11], [1, 1], [1, 1, 1], [1, 11], [11, 1])}
    assert len(digests) == 7
    assert prompt_digest([1, 2, 3]) == "8a6ae15122001229"  # stays: the bundles of earlier runs hold it


def test_all_of_a_plain_text_carries_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    row = Row.of(text="the sum")
    assert learned(tokenizer, row) == "<s>the sum</s>"
    assert prompt_messages(row) == []


def test_bos_is_set_where_the_tokenizer_itself_sets_it(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    assert learned(tokenizer, Row.of(text="the sum")) == "the sum</s>"
    assert tokenizer.decode(encode_prompt(tokenizer, TURNS[:2])).startswith("be kind")


def test_every_answer_carries_loss_where_the_template_ends_a_whole_conversation_otherwise(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"  # as Phi-3
    assert learned(tokenizer, Row.of(messages=TURNS)) == "hello<|end|> 5<|end|>"
    assert tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)) == ["</s>", "<|end|>"]


def test_turns_that_are_not_to_be_trained_on_carry_no_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = CHATML
    untrained = [{**turn, "train": False} if turn["content"] == "hello" else turn for turn in TURNS]
    assert learned(tokenizer, Row.of(messages=untrained)) == " 5<|end|>"
    last = [*TURNS, {"role": "user", "content": "and?"}, {"role": "assistant", "content": "x", "train": False}]
    assert learned(tokenizer, Row.of(messages=last)) == "hello<|end|> 5<|end|>"


def test_rows_whose_template_rewrites_earlier_answers_say_so(tokenizer: PreTrainedTokenizerFast) -> None:
    for template, silent in ((CHATML, 0), (REWRITES, 1)):
        tokenizer.chat_template = template
        assert encode_row(tokenizer, Row.of(messages=TURNS)).silent_turns == silent


def test_turns_after_the_last_answer_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    row = Row.of(messages=[*TURNS, {"role": "user", "content": "thanks"}])
    assert encode_row(tokenizer, row) == encode_row(tokenizer, Row.of(messages=TURNS))


def test_encoding_many_rows_equals_encoding_each(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [Row.of(messages=TURNS), Row.of(text="the sum"), Row.of(messages=TURNS[:3])]
    assert encode_rows(tokenizer, rows) == [encode_row(tokenizer, row) for row in rows]
    assert encode_rows(tokenizer, []) == []


def test_stop_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)) == ["</s>"]
    tokenizer.chat_template = CHATML
    assert tokenizer.convert_ids_to_tokens(stop_token_ids(tokenizer)) == ["</s>", "<|end|>"]


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        (None, TURNS[:2], "no message of role 'assistant' carries loss"),
        (None, [{"role": "tool", "content": "x"}, TURNS[2]], "no role 'tool'"),
        (NO_SYSTEM, TURNS, "refuses a conversation of roles system, user, assistant"),
        (BROKEN, TURNS, "does not start with its own generation prompt"),
    ],
)
def test_rows_that_cannot_be_encoded_are_errors(
    tokenizer: PreTrainedTokenizerFast, template: str | None, messages: list[dict[str, str]], message: str
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(DatasetError, match=f"(?s)file:7: .*{message}"):
        encode_row(tokenizer, Row.of(messages=messages, origin="file:7"))


def test_a_tokenizer_without_eos_token_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ModelLoadingError, match="has no EOS token"):
        encode_row(tokenizer, Row.of(messages=TURNS))
