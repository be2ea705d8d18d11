"""The built-in messages: what is held out shares no sentence, name, product or company with what is trained on."""

import json

import pytest

from loraline.quickstart import message_texts as texts
from loraline.quickstart.messages_to_json import held_out_messages, training_messages

TRAINING, HELD_OUT = list(training_messages()), list(held_out_messages())
PARTS = {name: value for name, value in vars(texts).items() if name.isupper()}


@pytest.mark.parametrize("name", PARTS)
def test_what_is_held_out_is_not_trained_on(name: str) -> None:
    training, held_out = PARTS[name]
    assert not set(training) & set(held_out)
    assert len(set(training)) == len(training)
    assert len(set(held_out)) == len(held_out)


def test_rows_are_the_same_each_time_and_none_is_repeated() -> None:
    assert list(training_messages()) == TRAINING
    prompts = [row["prompt"] for row in (*TRAINING, *HELD_OUT)]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("rows", [TRAINING, HELD_OUT], ids=["training", "held out"])
def test_the_json_says_what_the_message_says(rows: list[dict[str, str]]) -> None:
    kinds = set()
    for row in rows:
        instruction, message = row["prompt"].split("\n")
        fields = json.loads(row["completion"])
        kinds.add(tuple(fields))
        assert instruction.endswith(f"with the keys {', '.join(fields)}:")
        for key in ("customer", "name", "product", "service", "company", "invoice", "day"):
            assert str(fields.get(key, "")) in message
    assert len(kinds) == 3


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("half past three in the afternoon", "time", "15:30"),
        ("a quarter to twelve in the morning", "time", "11:45"),
        ("12:15 pm", "time", "12:15"),
        ("a dozen", "quantity", 12),
    ],
)
def test_what_people_write_has_one_form_in_the_json(written: str, key: str, value: str | int) -> None:
    found = {
        json.loads(row["completion"])[key]
        for row in TRAINING
        if written in row["prompt"].lower() and f", {key}" in row["prompt"]
    }
    assert found == {value}
