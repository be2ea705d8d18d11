"""The policy applied to prompts and answers, and its records in the audit trail."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loraline.artifacts.base_model import ModelManifest
from loraline.artifacts.dataset_files import Message
from loraline.errors import StorageError
from loraline.models.folder import write_manifest
from loraline.safety.policy import Policy
from loraline.safety.policy_files import write_policy
from loraline.serving.audit import AuditTrail
from loraline.serving.audit_verification import verify
from loraline.serving.conversation import Conversation
from loraline.serving.guard import Guard
from tests import tiny

MODEL = {"source": "tea", "version": "7", "digest": "abc"}


def policy(**changes: Any) -> Policy:
    coffee = {"name": "coffee", "description": "x", "patterns": ["coffee"]}
    price = {"name": "price", "description": "x", "patterns": ["price"], "say": "Prices may change."}
    both = {"prompt": "allow-with-notice", "answer": "allow-with-notice"}
    return Policy.model_validate(
        {
            "name": "tea",
            "version": "2",
            "description": "x",
            "system_prompt": "You sell tea.",
            "refusal": {"text": "I can't.", "patterns": ["I can't"]},
            "categories": [
                {**coffee, "actions": {"prompt": "refuse", "answer": "refuse"}},
                {**price, "actions": both},
            ],
            **changes,
        }
    )


def user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


class Speaker:
    """Says something, and remembers what it was asked."""

    def __init__(self, *pieces: str) -> None:
        self.pieces, self.asked = pieces, list[list[Message]]()

    def __call__(self, messages: list[Message]) -> Iterator[str]:
        self.asked.append(messages)
        return iter(self.pieces)


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    return AuditTrail(tmp_path / "audit.jsonl")


def records(trail: AuditTrail) -> list[dict[str, Any]]:
    assert verify(trail.path).chain_break is None
    return [json.loads(line) for line in trail.path.read_text().splitlines()]


def test_a_refused_prompt_never_reaches_the_model(trail: AuditTrail) -> None:
    speaker, guard = Speaker("yes"), Guard(policy(), trail, MODEL)
    assert list(guard.answer(user("coffee?"), speaker)) == ["I can't."]
    assert speaker.asked == []
    assert not guard.was_generated
    (record,) = records(trail)
    assert (record["event"], record["decision"], record["category"]) == ("prompt", "refuse", "coffee")
    assert record["model"] == MODEL
    assert record["policy"] == {"name": "tea", "version": "2", "digest": policy().digest}


def test_a_refused_answer_is_withheld_completely(trail: AuditTrail) -> None:
    speaker, guard = Speaker("Tea is fine, ", "but cof", "fee is better."), Guard(policy(), trail)
    assert list(guard.answer(user("tea?"), speaker)) == ["I can't."]
    assert guard.was_generated
    assert guard.decision.category == "coffee"
    prompt, answer = records(trail)
    assert (prompt["decision"], answer["decision"]) == ("allow", "refuse")
    assert prompt["exchange"] == answer["exchange"]
    assert answer["answer"] == trail.digest("Tea is fine, but coffee is better.")
    assert "better" not in trail.path.read_text()
    assert "tea?" not in trail.path.read_text()


def test_an_allowed_answer_has_each_notice_once(trail: AuditTrail) -> None:
    guard = Guard(policy(), trail)
    assert "".join(guard.answer(user("tea?"), Speaker("Green", " tea."))) == "Green tea."
    assert "".join(guard.answer(user("price?"), Speaker("The price is 2."))) == "The price is 2.\n\nPrices may change."
    assert [one["decision"] for one in records(trail)] == ["allow", "allow", "allow-with-notice", "allow-with-notice"]


def test_the_policys_system_prompt_is_prepended_as_in_training() -> None:
    speaker, guard = Speaker("x"), Guard(policy())
    own = [{"role": "system", "content": "mine"}, *user("tea?")]
    for messages in (user("tea?"), own):
        list(guard.answer(messages, speaker))
    assert speaker.asked == [[{"role": "system", "content": "You sell tea."}, *user("tea?")], own]


def test_raw_text_is_recorded_if_the_policy_says_so(trail: AuditTrail) -> None:
    list(Guard(policy(audit={"raw_text": True}), trail).answer(user("tea?"), Speaker("Green.")))
    prompt, answer = records(trail)
    assert prompt["prompt_text"][-1] == {"role": "user", "content": "tea?"}
    assert "answer_text" not in prompt
    assert answer["answer_text"] == "Green."


def test_without_a_policy_answers_are_streamed_and_recorded(trail: AuditTrail) -> None:
    pieces = Guard(None, trail).answer(user("coffee?"), Speaker("one", "two", "three"))
    assert [next(pieces), next(pieces)] == ["one", "two"]
    assert len(records(trail)) == 1
    pieces.close()  # type: ignore[attr-defined]
    prompt, answer = records(trail)
    assert prompt["policy"] is None
    assert answer["answer"] == trail.digest("onetwo")


def test_nothing_is_shown_that_cannot_be_recorded(trail: AuditTrail) -> None:
    speaker, guard = Speaker("yes"), Guard(policy(), trail)
    trail.path.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        guard.answer(user("tea?"), speaker)
    assert speaker.asked == []
    trail.path.rmdir()
    pieces = guard.answer(user("tea?"), speaker)
    trail.path.unlink()
    trail.path.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        next(pieces)


def test_the_policy_in_the_model_folder_applies_by_default(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path)
    write_manifest(model, ModelManifest(compute_dtype="float32", device="cpu"))
    free = "".join(Conversation(model).answer(user("tea?"), max_new_tokens=20))
    everything = {"name": "all", "description": "x", "patterns": [r"[\s\S]+"], "actions": {"answer": "refuse"}}
    write_policy(policy(system_prompt="", categories=[everything]), model)
    assert list(Conversation(model).answer(user("tea?"), max_new_tokens=20)) == ["I can't."]
    guard = Guard(None)
    assert "".join(Conversation(model, guard=guard).answer(user("tea?"), max_new_tokens=20)) == free != "I can't."
