"""Screening of rows, prompts and answers."""

import pytest

from loraline.data.rows import Row
from loraline.safety.patterns import NormalizedText, compile_pattern
from loraline.safety.screening import Match, check_answer, check_prompt, screen_row
from tests.loraline.safety.conftest import SMALL, Load


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("dose", "DOSE?", "DOSE"),
        ("dose", "overdose, dosed", None),
        ("chest pain", "chest \n pain", "chest \n pain"),
        ("a ?b", "ab", "ab"),
        ("a[ ]b", "a b", "a b"),
        ("a[ ]b", "a\nb", None),
        (r"a\ b", "a b", "a b"),
        ("(?<!if )you have", "you have", "you have"),
        ("(?<!if )you have", "if\nyou have", None),
        ("can't", "I can\u2019t", "can\u2019t"),
        ("want to die", "want to d\u200bi\u00ade", "want to d\u200bi\u00ade"),
        ("kill", "\uff4b\uff49\uff4c\uff4c \ufb01re", "\uff4b\uff49\uff4c\uff4c"),
        ("fire", "a \ufb01re!", "\ufb01re"),
        ("caf\u00e9", "cafe\u0301s cafe\u0301 x", "cafe\u0301"),
    ],
)
def test_pattern_syntax(pattern: str, text: str, found: str | None) -> None:
    span = NormalizedText(text).find(pattern)
    assert (span and text[slice(*span)]) == found
    assert NormalizedText(text).matches_any(("nowhere", pattern)) == (found is not None)


def test_patterns_with_numbered_groups_match() -> None:
    assert NormalizedText("tea tea").matches_any(("(a) x", r"(tea) \1"))
    assert not NormalizedText("tea pot").matches_any(("(a) x", r"(tea) \1"))


@pytest.mark.parametrize("pattern", ["", "x*", "a|", "(", "[z-a]", "\bword"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"matches the empty|not a regular|backspace"):
        compile_pattern(pattern)


def test_rows_are_screened_turn_by_turn(load: Load) -> None:
    policy = load()
    row = Row.of(
        messages=[
            {"role": "system", "content": policy.system_prompt},
            *user("Is it healthy?"),
            {"role": "assistant", "content": "I like COFFEE more. Mail ann@corp.example.org or +49 30 901820 now."},
        ]
    )
    found = screen_row(policy, row)
    assert [(one.category, one.action, one.where) for one in found] == [
        ("health", "report", 1),
        ("coffee", "drop", 2),
        ("personal", "drop", 2),
    ]
    assert found[1] == Match("coffee", "drop", 2, 7, 13, found[1].excerpt)
    assert "COFFEE" in found[1].excerpt
    assert not any("ann@" in one.excerpt or "901820" in one.excerpt for one in found)
    (plain,) = screen_row(policy, Row.of(text="a cup of coffee"))
    assert (plain.where, plain.start, plain.end) == ("text", 9, 15)
    assert screen_row(policy, Row.of(text="a cup of tea, shop@tea.example")) == []


def test_the_policys_own_system_prompt_is_skipped(load: Load) -> None:
    policy = load(system_prompt="Never speak of coffee.\n{boundaries}")
    assert screen_row(policy, Row.of(messages=[*policy.with_system_prompt(user("tea"))])) == []
    assert screen_row(policy, Row.of(messages=[{"role": "system", "content": "Speak of coffee."}]))


def test_a_prompt_is_allowed_or_gets_the_policys_response(load: Load) -> None:
    policy = load()
    assert check_prompt(policy, user("What is tea?")).action == "allow"
    for text, allowed, action, category, say in [
        ("I want coffee", False, "refuse", "coffee", "I can't talk about that."),
        ("Is it healthy", False, "refer", "health", "I can't advise. Ask a doctor."),
        ("The shop is on fire", False, "emergency", "fire", "I can't help here. Call 112."),
        ("What is the price of tea?", True, "allow-with-notice", "price", "Prices may change."),
        # The strongest decides, wherever it stands.
        ("The price of coffee?", False, "refuse", "coffee", "I can't talk about that."),
        ("Coffee is on fire", False, "emergency", "fire", "I can't help here. Call 112."),
    ]:
        decision = check_prompt(policy, user(text))
        assert (decision.allowed, decision.action, decision.category, decision.text) == (allowed, action, category, say)


def test_only_user_messages_after_the_last_answer_count(load: Load) -> None:
    policy = load()
    talk = [*user("coffee"), {"role": "assistant", "content": "I can't talk about that."}, *user("tea then")]
    assert check_prompt(policy, talk).allowed
    assert not check_prompt(policy, [*user("cof"), *user("coffee")]).allowed
    assert check_prompt(policy, [{"role": "system", "content": "no coffee"}, *user("tea")]).allowed


def test_an_answer_may_not_contain_new_personal_data(load: Load) -> None:
    policy = load()
    answer = "Write to ann@corp.example.org"
    assert check_answer(policy, user("Where?"), answer).category == "personal"
    assert check_answer(policy, user("I am ann@corp.example.org"), answer).allowed
    assert check_answer(policy, user("Where?"), "Write to shop@tea.example").allowed
    assert check_answer(policy, user("Is it healthy?"), "Is it healthy? Yes.").allowed  # not looked for in answers


def test_a_category_can_have_its_own_response(load: Load) -> None:
    coffee = {**SMALL["categories"][0], "say": "I can't: we sell tea."}
    assert check_answer(load(categories=[coffee]), [], "coffee!").text == "I can't: we sell tea."
