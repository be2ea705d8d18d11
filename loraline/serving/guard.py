"""Apply a safety policy to prompts and answers, and record the decisions in the audit trail. Needs no torch."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from loraline.artifacts.dataset_files import Message
from loraline.safety.policy import Policy
from loraline.safety.screening import ALLOWED, Decision, check_answer, check_prompt
from loraline.serving.audit import AuditTrail

Generate = Callable[[list[Message]], Iterator[str]]


class Guard:
    """Checks prompts and answers against a policy and writes the audit trail.

    With a policy an answer is buffered until it is complete: its last sentence may be the one that is not allowed,
    and text that was shown cannot be withdrawn.

    The trail gets a record `prompt` before the model runs and a record `answer` before the answer is shown (without
    a policy, when the answer is streamed: after it). If the trail cannot be written, nothing is shown. An allowed
    prompt without an `answer` record was never answered.
    """

    def __init__(self, policy: Policy | None, trail: AuditTrail | None = None, model: dict[str, str] | None = None):
        """Create a guard.

        Args:
            policy: None allows everything.
            trail: where the decisions are recorded; None: nowhere.
            model: source, version and digest of the model, for the trail.
        """
        self._policy = policy
        self._trail = trail
        self._model = model or {}
        self.decision = ALLOWED
        """The last decision: on the prompt if it was refused, else on the answer."""
        self.was_generated = False
        """Whether the model was run for the last prompt."""

    def answer(self, messages: list[Message], generate: Generate) -> Iterator[str]:
        """Yield the model's answer to a conversation, or the policy's response instead.

        Args:
            messages: the conversation.
            generate: runs the model; gets the conversation with the policy's system prompt.

        Raises:
            StorageError, ValidationError: the trail cannot be written.
        """
        exchange = uuid.uuid4().hex
        policy = self._policy
        if policy is None:
            self._record("prompt", exchange, ALLOWED, messages)
            return self._streamed_answer(exchange, messages, generate(messages))
        messages = policy.with_system_prompt(messages)
        self.decision = check_prompt(policy, messages)
        self.was_generated = self.decision.allowed
        self._record("prompt", exchange, self.decision, messages)
        if not self.was_generated:
            return iter([self.decision.text])
        return self._checked_answer(policy, exchange, messages, generate(messages))

    def _checked_answer(
        self, policy: Policy, exchange: str, messages: list[Message], pieces: Iterator[str]
    ) -> Iterator[str]:
        notice = self.decision.text
        text = "".join(pieces)
        self.decision = check_answer(policy, messages, text)
        self._record("answer", exchange, self.decision, messages, text)
        if not self.decision.allowed:
            yield self.decision.text
            return
        notices = dict.fromkeys(one.strip() for one in (notice, self.decision.text) if one)
        yield "\n\n".join([text, *notices])

    def _streamed_answer(self, exchange: str, messages: list[Message], pieces: Iterator[str]) -> Iterator[str]:
        shown: list[str] = []
        try:
            for piece in pieces:
                shown.append(piece)
                yield piece
        finally:  # also when the caller stops early: record what was shown
            self._record("answer", exchange, ALLOWED, messages, "".join(shown))

    def _record(
        self, event: str, exchange: str, decision: Decision, messages: list[Message], answer: str | None = None
    ) -> None:
        if self._trail is None:
            return
        policy = self._policy
        # Of plain turns role and text, as all records have had it; else all that the turn has.
        prompt = json.dumps([[turn["role"], turn["content"]] if len(turn) == 2 else turn for turn in messages])
        fields: dict[str, Any] = {
            "exchange": exchange,
            "model": self._model,
            "policy": policy and {"name": policy.name, "version": policy.version, "digest": policy.digest},
            "decision": decision.action,
            "category": decision.category,
            "key": self._trail.key_id,
            "prompt": self._trail.digest(prompt),
        }
        if answer is not None:
            fields["answer"] = self._trail.digest(answer)
        if policy and policy.audit.raw_text:
            fields |= {"prompt_text": messages} | ({} if answer is None else {"answer_text": answer})
        self._trail.append(event, **fields)
